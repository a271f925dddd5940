"""Results of a run as a record and as a picture. No torch; matplotlib is imported on first use."""

from laconic.report.data import Curve, Report, from_json, gather, to_json
from laconic.report.picture import draw

__all__ = ["Curve", "Report", "draw", "from_json", "gather", "to_json"]
