-- Who may call which deployment, decided for all processes at once.
--
-- `decide(now, asks, read)` is all of it: plain tables in and out, time in seconds. Redis runs it with its own clock
-- and its own hashes (the last lines, added by deciders.py); a process that cannot reach Redis runs the same lines.

-- Limits -------------------------------------------------------------------------------------------------------------

local BURST_S = 0.5      -- allowance that was not used stays good for this long
local HORIZON_S = 2.0    -- permits are given out at most this far ahead of time
local PAUSE_S = 0.1      -- after a provider said that nothing is left

-- Learning a rate: it falls at once when a call is throttled, comes back fast to where it was throttled, lingers there
-- and then grows faster and faster, so that a rate that was cut too far is soon found again: the curve of TCP's CUBIC
-- (RFC 9438), rate(t) = hit * (1 + CURVE * (t - K)^3), where K is the time it takes to come back.
local CUT = 0.9          -- of the rate that was throttled
local CUT_AGAIN = 0.8    -- where that was cut only a moment ago
local CUT_SEARCHING = 0.5 -- until the first rate is found: the truth is far below
local AGAIN_S = 5.0
local CURVE = 0.1 / 15 ^ 3  -- a rate that was cut once is back after 15 s
local FLOOR = 1 / 60     -- one call a minute always goes through, or nothing would ever be learned
local SENT_WINDOW_S = 2.0

-- Counts over a sliding window, from the counts of this span and of the one before.
local function roll(state, now, window, names)
  local age = now - (state.window_at or 0)
  if age < window then return age / window end
  for _, name in ipairs(names) do
    state[name .. '_before'] = age < 2 * window and state[name] or 0
    state[name] = 0
  end
  state.window_at = now
  return 0
end

local function over_window(state, name, part)
  return (state[name] or 0) + (1 - part) * (state[name .. '_before'] or 0)
end

-- What configuration and the provider's headers say; 0 where neither does. The lower one holds.
local function known(configured, told)
  told = told or 0
  if configured > 0 and told > 0 then return math.min(configured, told) / 60 end
  return math.max(configured, told) / 60
end

local function grow(state, now, ceiling)
  if not state.learned then return end
  local back_s = (math.max(0, 1 - state.cut_to / state.hit) / CURVE) ^ (1 / 3)
  state.learned = state.hit * (1 + CURVE * (now - state.cut_at - back_s) ^ 3)
  if ceiling > 0 and state.learned >= ceiling then state.learned = nil end
end

-- A call was throttled whose process knew of so many cuts when it began: one that did not know of the last cut says
-- nothing about the rate after it.
local function cut(state, now, knew, rate, part)
  local last = state.cut_at or 0
  if knew < (state.cuts or 0) then return nil end
  local again = now - last < AGAIN_S
  state.searching = (rate == 0 or state.searching == 1 and again) and 1 or nil
  local from = rate > 0 and rate or over_window(state, 'sent', part) / SENT_WINDOW_S
  local share = state.searching and CUT_SEARCHING or again and CUT_AGAIN or CUT
  -- What the provider has just taken, it takes: so a stray refusal, or several at once, cut no deeper than that.
  local taken = CUT * over_window(state, 'taken', part) / SENT_WINDOW_S
  state.cut_to = math.max(FLOOR, math.min(CUT * from, math.max(share * from, taken)))
  -- After a first cut the truth is expected where it was throttled, after others halfway.
  state.hit = math.max(FLOOR, share == CUT and from or (from + state.cut_to) / 2)
  state.learned, state.cut_at, state.cuts = state.cut_to, now, (state.cuts or 0) + 1
  return { state = 'throttled', rpm = state.learned * 60 }
end

local function rate_of(state, ceiling)
  if state.learned and ceiling > 0 then return math.min(state.learned, ceiling) end
  return state.learned or ceiling
end

-- How many of the permits that a process wants it is given. Where so many processes ask that the horizon is full, those
-- that have none left still get some, or they would starve; the more ask, the fewer.
local function portion(state, now, ask, delay)
  if ask.requests <= 0 or delay <= HORIZON_S then return ask.requests end
  if not ask.is_empty or (state.rest_until or 0) > now then return 0 end
  return math.max(1, math.floor(ask.requests * (HORIZON_S / delay) ^ 2))
end

-- Each clock runs ahead by what was given out (GCRA; ITU-T I.371): the next permit is good from there on.
local function reserve(state, now, ask, rate, token_rate)
  local start = math.max(now, state.rest_until or 0)
  local requests_at = math.max(state.requests_at or 0, now - BURST_S)
  local tokens_at = math.max(state.tokens_at or 0, now - BURST_S)
  if token_rate > 0 then
    tokens_at = math.max(tokens_at + ask.spent / token_rate, now - BURST_S)
    if ask.no_tokens_left then tokens_at = math.max(tokens_at, now + PAUSE_S) end
    start = math.max(start, tokens_at)
  end
  if rate > 0 then
    if ask.none_left then requests_at = math.max(requests_at, now + PAUSE_S) end
    start = math.max(start, requests_at)
  end
  local given = portion(state, now, ask, start - now)
  if given ~= 0 then
    local base, tokens = given > 0 and start or 0, ask.tokens * given / ask.requests
    if rate > 0 then requests_at = math.max(requests_at, base - BURST_S) + given / rate end
    if token_rate > 0 then tokens_at = math.max(tokens_at, base - BURST_S) + tokens / token_rate end
  end
  state.requests_at, state.tokens_at = requests_at, tokens_at
  return given, start - now
end

local function limit(state, now, ask)
  local part = roll(state, now, SENT_WINDOW_S, { 'sent', 'taken' })
  state.sent = (state.sent or 0) + ask.sent
  state.taken = (state.taken or 0) + ask.taken
  -- Where Redis came back empty, or is gone, what this process last knew is better than nothing.
  for _, name in ipairs({ 'rpm', 'tpm' }) do
    local told = ask['told_' .. name] > 0 and ask['told_' .. name] or state['told_' .. name] or 0
    state['told_' .. name] = told > 0 and told or ask['knew_' .. name]
  end
  local ceiling = known(ask.rpm, state.told_rpm)
  if not state.learned and ask.learned > 0 and not state.cut_at then
    state.learned, state.hit, state.cut_to, state.cut_at = ask.learned, ask.learned, ask.learned, now
  end
  grow(state, now, ceiling)
  local event = nil
  if ask.throttled >= 0 then event = cut(state, now, ask.throttled, rate_of(state, ceiling), part) end
  if ask.rest > 0 then
    state.rest_until = math.max(state.rest_until or 0, now + ask.rest)
    -- What was not used meanwhile is not to be made up for: the provider has nothing left.
    state.requests_at = math.max(state.requests_at or 0, state.rest_until)
  end
  local rate, token_rate = rate_of(state, ceiling), known(ask.tpm, state.told_tpm)
  local given, delay = reserve(state, now, ask, rate, token_rate)
  return {
    given = given,
    delay = delay,
    rate = rate,
    token_rate = token_rate,
    learned = state.learned or 0,
    told_rpm = state.told_rpm,
    told_tpm = state.told_tpm,
    cuts = state.cuts or 0,
    rest = math.max(0, (state.rest_until or 0) - now),
  }, event
end

-- Breakers -----------------------------------------------------------------------------------------------------------

local WINDOW_S = 10.0
local LEAST_CALLS = 10
local RATIO = 0.5
local OPEN_FIRST_S = 5.0
local OPEN_CAP_S = 120.0
local STEADY_S = 60.0    -- closed for this long, the next opening is a first one again

local function open(state, now, why)
  local steady = state.closed_at and now - state.closed_at > STEADY_S
  state.openings = steady and 1 or (state.openings or 0) + 1
  state.openings_total = (state.openings_total or 0) + 1
  local span = math.min(OPEN_CAP_S, OPEN_FIRST_S * 2 ^ (state.openings - 1))
  -- It is no longer closed: probes that fail while it is open for minutes are no first openings.
  state.open_until, state.probe_until, state.prober, state.closed_at = now + span, nil, nil, nil
  return { state = 'open', seconds = span, why = why }
end

local function close(state, now)
  state.open_until, state.probe_until, state.prober = nil, nil, nil
  state.ok, state.failed, state.ok_before, state.failed_before = 0, 0, 0, 0
  state.closed_at = now
  return { state = 'closed' }
end

local function count(state, now, ask)
  local part = roll(state, now, WINDOW_S, { 'ok', 'failed' })
  state.ok = (state.ok or 0) + ask.ok
  state.failed = (state.failed or 0) + ask.failed
  local failed = over_window(state, 'failed', part)
  local calls = failed + over_window(state, 'ok', part)
  if ask.failed > 0 and calls >= LEAST_CALLS and failed >= RATIO * calls then
    return open(state, now, string.format('%d of %d calls failed', math.floor(failed + 0.5), math.floor(calls + 0.5)))
  end
end

-- Whoever asks first when the time is up gets the one probe, for as long as its call may take.
local function give_probe(state, now, ask)
  local taken = state.probe_until and state.probe_until > now
  if not ask.wants_probe or taken or now < state.open_until then return false end
  state.probe_until, state.prober = now + ask.probe_s, ask.holder
  return true
end

local function breaker(state, now, ask)
  local event, probe = nil, false
  if ask.rest > 0 then
    state.rest_until = math.max(state.rest_until or 0, now + ask.rest)
    event = { state = 'resting', seconds = ask.rest, why = 'quota exhausted' }
  end
  if not state.open_until then
    event = count(state, now, ask) or event
  elseif ask.probe_result ~= '' and state.prober == ask.holder then
    if ask.probe_result == 'ok' then
      event = close(state, now)
    elseif ask.probe_result == 'failed' then
      event = open(state, now, 'the probe failed')
    else
      state.probe_until, state.prober = nil, nil
    end
  end
  if state.open_until then probe = give_probe(state, now, ask) end
  return {
    open = state.open_until ~= nil,
    delay = math.max(0, (state.open_until or 0) - now),
    probe = probe,
    rest = math.max(0, (state.rest_until or 0) - now),
  }, event
end

-- Both ---------------------------------------------------------------------------------------------------------------

-- luacheck: ignore decide
local function decide(now, asks, read, note)
  local replies = { limits = {}, breakers = {} }
  for kind, decider in pairs({ limits = limit, breakers = breaker }) do
    for index, ask in ipairs(asks[kind]) do
      local reply, event = decider(read(ask.key), now, ask)
      replies[kind][index] = reply
      if event then
        event.at = now
        note(ask.key, event)
      end
    end
  end
  return replies
end
