"""The standard gRPC health service (grpc.health.v1), which Envoy's active health checking calls.

The answer is the same for every service name: there is only one service.
"""

from __future__ import annotations

from typing import Final

from grpc_health.v1 import health_pb2

HEALTH_METHOD: Final = "/grpc.health.v1.Health/Check"

SERVING: Final = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING).SerializeToString()
NOT_SERVING: Final = health_pb2.HealthCheckResponse(
    status=health_pb2.HealthCheckResponse.NOT_SERVING
).SerializeToString()
