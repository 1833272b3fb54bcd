-- Each request goes to another one of HOSTS hosts, in an order that no cache likes.
local count, turn = tonumber(os.getenv("HOSTS")), 0
request = function()
  turn = (turn * 1103515245 + 12345) % 2147483648
  return wrk.format("GET", "/small", { ["Host"] = "h" .. (math.floor(turn / 65536) + turn) % count .. ".example.test" })
end
