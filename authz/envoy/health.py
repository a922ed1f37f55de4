"""The standard gRPC health service, of which Envoy asks `Check`: whether to send checks here.

It says the same of every service by name, for there is one (grpc.health.v1).
"""

from __future__ import annotations

from typing import Final

from grpc_health.v1 import health_pb2

HEALTH_METHOD: Final = "/grpc.health.v1.Health/Check"

SERVING: Final = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING).SerializeToString()
NOT_SERVING: Final = health_pb2.HealthCheckResponse(
    status=health_pb2.HealthCheckResponse.NOT_SERVING
).SerializeToString()
