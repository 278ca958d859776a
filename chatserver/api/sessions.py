"""`/session`: show the user, choose a guest's name, sign out (docs/protocol.md).

Owns: the meaning of these requests. May not: identify the user of a request; identities.py does.
"""

from math import ceil

from chatserver.api.answers import Answer, Later, Queue, Response, given_anyway
from chatserver.api.encoder import expiry_text
from chatserver.api.identities import Identified, set_cookie
from chatserver.api.request import Request
from chatserver.api.services import Services, check_signed_in
from chatserver.api.tokens import MAX_LIFETIME
from chatserver.chat.principal import Principal, named_token, new_token, opened
from chatserver.log.signouts import SignOut
from chatserver.protocol import encoders
from chatserver.protocol.bodies import decode_session
from chatserver.protocol.errors import MessageError, bad_field
from chatserver.reasons import ErrorCode

#: Characters of a token that fit into a cookie with its name and flags: browsers allow 4,096.
MAX_COOKIE_CHARS = 3900


class SessionHandlers:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._identities = services.identities
        self._secret = services.log.identity.secret

    def make(self, request: Request) -> Answer:
        """`POST /session`: become a guest with a chosen name, the same guest as before if the request has a token."""
        request.parameters()
        known = request.known
        name = decode_session(*request.content)
        token = new_token() if known is None else known.token
        if known is not None and not known.principal.is_guest:
            return self._keep(known, name, secure=request.secure)
        if name is not None:
            token = named_token(opened(token, self._secret)[0], name, self._secret)
        principal = self._identities.guest(token, request.network)
        check_signed_in(principal)
        return Response(201, [self._body(principal, token)], headers=(set_cookie(token, secure=request.secure),))

    def _keep(self, known: Identified, name: str | None, *, secure: bool) -> Answer:
        """Set a cookie for a signed-in user, until the sign-in expires."""
        if name is not None:
            raise bad_field("name", "a user who has signed in has the name that the token gives")
        if not known.token:  # a proxy names this user with each request
            return Response(201, [self._body(known.principal, "")])
        if len(known.token) > MAX_COOKIE_CHARS:
            sentence = f"a token of {len(known.token):,} characters does not fit a cookie, limit {MAX_COOKIE_CHARS:,}"
            raise MessageError(ErrorCode.TOO_LARGE, sentence)
        seconds = int(known.principal.seconds_left)  # each token has an end
        cookie = set_cookie(known.token, secure=secure, seconds=seconds)
        return Response(201, [self._body(known.principal, known.token)], headers=(cookie,))

    def show(self, request: Request) -> Answer:
        """`GET /session`: show the user of the request."""
        request.parameters()
        check_signed_in(request.principal)
        return Response(200, [self._body(request.principal)])

    def end(self, request: Request) -> Answer:
        """`DELETE /session`: sign out everywhere. Tokens and cookies made until now are no longer valid."""
        request.parameters()
        known = request.known
        if known is None or not known.token:  # the guest of an address, or a user that a proxy names with each request
            return self._ended(request)
        self._services.count_sign_out(known.principal)
        if not (known.principal.is_guest or self._identities.signed_out.takes(known.principal.number)):
            sentence = "no more sign-outs can be remembered; let the token expire"
            raise MessageError(ErrorCode.UNAVAILABLE, sentence)
        return Later(self._end_later(known.principal, known.issued, self._ended(request)), given_anyway, Queue.SLOW)

    async def _end_later(self, principal: Principal, issued: float, ended: Answer) -> Answer:
        signed_out = self._identities.signed_out
        now = ceil(max(signed_out.wall_ms(), issued * 1000))  # the issuer's clock may be ahead of ours
        until = now + int(MAX_LIFETIME * 1000)  # browsers keep no cookie of a guest for longer either
        sign_out = SignOut(principal.number, principal.is_guest, now, until)
        await self._services.log.signouts.add(sign_out)
        signed_out.note(sign_out)
        return ended

    def _ended(self, request: Request) -> Response:
        return Response(204, [], headers=(set_cookie("", secure=request.secure, seconds=0),))

    def _body(self, principal: Principal, token: str | None = None) -> bytes:
        return encoders.session_body(
            principal.face, guest=principal.is_guest, moderates=principal.rights.moderates,
            expires=expiry_text(principal), tokens=self._services.settings.takes_tokens, token=token,
        )  # fmt: skip
