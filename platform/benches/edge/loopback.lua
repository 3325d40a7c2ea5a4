-- Resolves every name to loopback: TLS needs a name in the URL, and the benchmark changes no hosts file.
local resolve = wrk.resolve
function wrk.resolve(_, service)
  resolve("127.0.0.1", service)
end
