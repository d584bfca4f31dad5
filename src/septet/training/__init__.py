"""What fits weights with torch: one file per kind of training, `fit(method, table, roles, rng, say) -> Trained`.

The engine loads a file by name when a method names it as its `trainer`. `roles` are the endpoints of the method's
roles, `say` is told how far it is. torch is imported inside functions; without it a fit says how to install it.
"""
