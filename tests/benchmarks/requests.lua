-- Payments for wrk. Arguments: path, token, body, the first 24 characters of the keys (none: no key is sent), and how
-- many keys to cycle over (0: each key is sent once). `Connection: close` spreads the requests over all workers, whereas
-- connections that are kept alive may all end at one.

local headers = { ["Connection"] = "close", ["Content-Type"] = "application/json" }
local path, body, prefix, cycle
local count = 0

function init(args)
  path, body, prefix, cycle = args[1], args[3], args[4], tonumber(args[5])
  headers["Authorization"] = "Token " .. args[2]
end

function request()
  count = count + 1
  if prefix ~= "" then
    local number = cycle > 0 and count % cycle or count
    headers["Idempotency-Key"] = string.format('"%s%012x"', prefix, number)
  end
  return wrk.format("POST", path, headers, body)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "failures": %d, "p50_ms": %.3f, "p99_ms": %.3f}\n',
    summary.requests,
    summary.duration / 1e6,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3
  ))
end
