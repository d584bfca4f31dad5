"""What fusing whole vocabularies costs: the same as `fused`, for the mean over all strings of both members."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from figures import Section, Setting
from fused import Aims, section


def run(setting: Setting) -> Section:
    """Members in turn, then in parallel, on each prompt."""
    return asyncio.run(section(replace(setting, ensemble="gac"), "gac", Aims(1.10, None, 1.20)))
