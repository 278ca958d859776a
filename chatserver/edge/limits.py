"""The limits that the edge enforces, gathered once from the settings.

Owns: the struct. May not: have defaults of its own; `config.Settings` has them.
"""

from dataclasses import dataclass

from chatserver.protocol.body import BodyLimits
from chatserver.protocol.head import HeadLimits
from chatserver.protocol.websocket import FrameLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeLimits:
    """Seconds and sizes; see `chatserver limits` for their reasons."""

    head: HeadLimits
    body: BodyLimits
    frames: FrameLimits
    echo_frames: FrameLimits
    body_deadline: float  # s
    body_deadline_max: float  # s
    body_rate: float  # bytes that buy one more second
    serving_deadline: float  # s
    request_rate: float  # a second, on one HTTP connection; 0 = no limit
    max_requests: int  # on one HTTP connection; 0 = any number
    message_rate: float  # a second, on one WebSocket; 0 = no limit
    max_rooms: int  # that a client joins at once when it comes back
