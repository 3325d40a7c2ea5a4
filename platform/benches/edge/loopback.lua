-- Whatever the name in the URL is, it is served here: TLS wants a name, and nobody's hosts file is changed for a bench.
local resolve = wrk.resolve
function wrk.resolve(_, service)
  resolve("127.0.0.1", service)
end
