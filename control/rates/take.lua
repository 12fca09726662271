-- KEYS are the counters of the asks, one of them perhaps more than once. ARGV
-- has three numbers for each: interval, what one unit costs; capacity, the most
-- debt; need, the debt of this cost, or 0 where it exceeds the burst and never
-- fits. All are whole microseconds up to 2^52, and now is below 2^52, so that
-- every sum is exact in a double.
--
-- A counter is "<tat> <interval>": the instant its debt ends, and the interval
-- it was made at. The answer has two numbers for each ask: the debt after it,
-- and how long until it fits, -1 where it was allowed.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local tat, made, answer, denied = {}, {}, {}, false

for i, key in ipairs(KEYS) do
  local interval, capacity, need = tonumber(ARGV[3*i-2]), tonumber(ARGV[3*i-1]), tonumber(ARGV[3*i])
  if not tat[key] then
    local held = redis.call('GET', key)
    tat[key], made[key] = now, interval
    if held then
      local t, m = string.match(held, '^(%d+) (%d+)$')
      tat[key], made[key] = tonumber(t), tonumber(m)
    end
  end
  local debt = math.max(tat[key] - now, 0)
  if debt > 0 and made[key] ~= interval then
    -- Used units stay used when the rate changes, up to a full burst; beyond
    -- 2^53 the product is rounded, and the debt with it by a microsecond.
    debt = math.min(math.ceil(debt * interval / made[key]), capacity)
  end
  local wait = debt - (capacity - need)
  if need == 0 then
    wait = debt
  end
  if need == 0 or wait > 0 then
    denied = true
  else
    debt, wait = debt + need, -1
    tat[key], made[key] = now + debt, interval
  end
  answer[2*i-1], answer[2*i] = debt, wait
end

if not denied then
  for key, ends in pairs(tat) do
    local ms = math.ceil((ends - now) / 1000)
    redis.call('SET', key, string.format('%.0f %.0f', ends, made[key]), 'PX', string.format('%.0f', ms))
  end
end
return answer
