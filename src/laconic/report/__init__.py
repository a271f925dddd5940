"""What a run did, as data that is kept and as a picture of it: no torch, and matplotlib on first use."""

from laconic.report.data import Curve, Report, from_json, gather, to_json
from laconic.report.picture import draw

__all__ = ["Curve", "Report", "draw", "from_json", "gather", "to_json"]
