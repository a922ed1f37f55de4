"""The least that can answer Envoy: a grpcio server that allows whatever it is asked. What all else is compared with.

Run `python -m tests.bench.bare ADDRESS`. It takes raw bytes, with the options of the sidecar and four threads.
"""

from __future__ import annotations

import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc

from authz.envoy import ext_authz_pb2 as wire
from authz.envoy.admission import METHOD, OPTIONS

_THREADS: Final = 4
ALLOW: Final = wire.CheckResponse(status=wire.Status(code=0)).SerializeToString()


class _AllowAll(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        if handler_call_details.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(lambda _data, _context: ALLOW)


def main() -> None:
    """Serve until SIGTERM."""
    server = grpc.server(ThreadPoolExecutor(_THREADS), handlers=[_AllowAll()], options=OPTIONS)
    server.add_insecure_port(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
