-- Sends the tokens of a file in turn, from a place in it on, and tells as JSON what came of it.
-- The file holds tokens of one length, a line each, or a token, a space and a proof (DPoP): `wrk ... -- FILE FIRST THINK`. With THINK > 0 each connection waits
-- a random 0 to THINK milliseconds before each request, so that many connections together send like many clients.

local tokens, width, count, at, space

function init(args)
  local file = assert(io.open(args[1], "rb"))
  tokens = file:read("*a")
  file:close()
  width = assert(tokens:find("\n", 1, true), "a line for each token")
  count = #tokens / width
  space = tokens:sub(1, width):find(" ", 1, true)
  at = tonumber(args[2])
  local think = tonumber(args[3])
  if think > 0 then
    math.randomseed(at)
    delay = function() return math.random(0, think) end
  end
end

function request()
  local first = at % count * width + 1
  at = at + 1
  if space then
    return "GET /orders/5 HTTP/1.1\r\nHost: bench.test\r\nAuthorization: DPoP "
      .. tokens:sub(first, first + space - 2) .. "\r\nDPoP: "
      .. tokens:sub(first + space, first + width - 2) .. "\r\n\r\n"
  end
  return "GET /orders/5 HTTP/1.1\r\nHost: bench.test\r\nAuthorization: Bearer "
    .. tokens:sub(first, first + width - 2) .. "\r\n\r\n"
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "us": %d, "refused": %d, "broken": %d, "p50_us": %d, "p99_us": %d}\n',
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
