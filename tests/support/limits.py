"""The limits of parsers as a server has them by default."""

from chatserver.protocol.body import BodyLimits
from chatserver.protocol.head import HeadLimits
from chatserver.protocol.websocket import FrameLimits
from chatserver.settings.fields import Settings

_SETTINGS = Settings()
HEAD_LIMITS = HeadLimits(_SETTINGS.max_head_bytes, _SETTINGS.max_head_fields)
BODY_LIMITS = BodyLimits(_SETTINGS.max_body_bytes)
FRAME_LIMITS = FrameLimits(_SETTINGS.max_message_bytes, _SETTINGS.max_fragments, binary=False)
