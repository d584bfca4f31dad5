"""Methods after inference on recorded answers and on live members: `septet bench after`."""
