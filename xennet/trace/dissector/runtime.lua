-- What reads records by the tables above, in Lua 5.2 to 5.4, without libraries for bits. Numbers are
-- taken by the fields themselves, 64-bit ones too: a number of Lua 5.2 holds 53 bits.
local xennet = Proto("xennet", "xennet")
local FIELDS = {}

local function define(abbreviation, field)
  if FIELDS[abbreviation] == nil then
    FIELDS[abbreviation] = field
  end
end

local function define_leaf(leaf)
  local abbreviation, size, kind, names, bits = leaf[1], leaf[3], leaf[4], leaf[5], leaf[6]
  local label = abbreviation:gsub("^xennet%.", "")
  if kind == "BYTES" then
    define(abbreviation, ProtoField.bytes(abbreviation, label))
    return
  end
  local display = #bits > 0 and base.HEX or base.DEC
  define(abbreviation, ProtoField.new(label, abbreviation, ftypes[kind], names, display))
  for _, bit in ipairs(bits) do
    local name = abbreviation .. "." .. bit[2]
    define(name, ProtoField.bool(name, bit[2], size * 8, nil, bit[1]))
  end
end

for _, leaf in ipairs(HEADER) do
  define_leaf(leaf)
end
define("xennet.rule", ProtoField.string("xennet.rule", "rule"))
define("xennet.text", ProtoField.string("xennet.text", "text"))
for _, structure in pairs(STRUCTURES) do
  define(structure.filter, ProtoField.none(structure.filter, structure.name))
  for _, variant in pairs(structure.variants) do
    for _, leaf in ipairs(variant) do
      define_leaf(leaf)
    end
  end
  if structure.payload then
    define(structure.payload_name, ProtoField.bytes(structure.payload_name, "payload"))
    define(structure.string_name, ProtoField.string(structure.string_name, "string"))
    for _, part in ipairs(PARTS) do
      define(structure.prefix .. part, ProtoField.string(structure.prefix .. part, part))
    end
  end
end
define("xennet.broken", ProtoField.string("xennet.broken", "rule that is broken"))
define("xennet.xs.response_in", ProtoField.framenum("xennet.xs.response_in", "response in",
  base.NONE, frametype.RESPONSE))
define("xennet.xs.response_to", ProtoField.framenum("xennet.xs.response_to", "response to",
  base.NONE, frametype.REQUEST))
define("xennet.xs.latency", ProtoField.relative_time("xennet.xs.latency", "latency"))

local all = {}
for _, field in pairs(FIELDS) do
  all[#all + 1] = field
end
xennet.fields = all

local broken = ProtoExpert.new("xennet.expert.rule", "a rule is broken",
  expert.group.PROTOCOL, expert.severity.WARN)
local short = ProtoExpert.new("xennet.expert.cut", "the record is cut",
  expert.group.MALFORMED, expert.severity.ERROR)
local unknown = ProtoExpert.new("xennet.expert.unknown", "not known",
  expert.group.UNDECODED, expert.severity.NOTE)
xennet.experts = { broken, short, unknown }

-- The bits that two numbers below 2^32 have both.
local function band(one, other)
  local both, bit = 0, 1
  one, other = one % 4294967296, other % 4294967296
  while one > 0 and other > 0 do
    if one % 2 == 1 and other % 2 == 1 then
      both = both + bit
    end
    one, other, bit = math.floor(one / 2), math.floor(other / 2), bit * 2
  end
  return both
end

-- Bytes as text: those that the pattern matches as \xNN, by default all but printable ASCII.
local function printable(range, pattern)
  return (range:raw():gsub(pattern or "[^\32-\126]", function(byte)
    return string.format("\\x%02x", byte:byte())
  end))
end

-- As the text of a name or value of the store, in which the backslash is \x5c.
local function store_text(range)
  return printable(range, "[^\32-\91\94-\126%]]")
end

-- Adds the fields that lie whole in the record; returns whether all do.
local function add_leaves(tree, buffer, at, leaves)
  local whole = true
  for _, leaf in ipairs(leaves) do
    local begin, size = at + leaf[2], leaf[3]
    if begin + size <= buffer:len() then
      local range = buffer(begin, size)
      local item = tree:add_le(FIELDS[leaf[1]], range)
      for _, bit in ipairs(leaf[6]) do
        item:add_le(FIELDS[leaf[1] .. "." .. bit[2]], range)
      end
    else
      whole = false
    end
  end
  return whole
end

-- The bytes from at on, at most length of them, and whether that is all.
local function bytes_at(buffer, at, length)
  local left = math.max(0, buffer:len() - at)
  local there = math.min(left, length)
  return there > 0 and buffer(at, there) or nil, there == length
end

-- Calls add(from, length) for each part of raw that ends at a nul or at its end and is not empty.
local function each_string(raw, add)
  local from = 0
  while from < #raw do
    local stop = raw:find("\0", from + 1, true) or #raw + 1
    if stop - 1 > from then
      add(from, stop - 1 - from)
    end
    from = stop
  end
end

-- Calls add(name, from, length) for the parts of raw by their names (xennet.trace.store_arguments).
local function each_argument(names, raw, add)
  local from = 0
  for _, name in ipairs(names) do
    while from < #raw do
      local stop = raw:find("\0", from + 1, true)
      if not stop or name:sub(-1) == "=" then
        stop = #raw + 1
      end
      if stop - 1 > from then
        add(name:gsub("[*=]$", ""), from, stop - 1 - from)
      end
      from = stop
      if name:sub(-1) ~= "*" then
        break
      end
    end
  end
end

local function add_payload(tree, buffer, at, structure, role)
  local begin = at + structure.payload[1]
  if begin + structure.payload[2] > buffer:len() then
    return false
  end
  local range, whole = bytes_at(buffer, at + structure.size,
    buffer(begin, structure.payload[2]):le_uint())
  if range then
    tree:add(FIELDS[structure.payload_name], range)
    local raw = range:raw()
    each_string(raw, function(from, length)
      local part = range(from, length)
      tree:add(FIELDS[structure.string_name], part, store_text(part))
    end)
    local arguments = ARGUMENTS[buffer(at, 4):le_uint()] or OTHER_ARGUMENTS
    local names = role == TO_STORE and arguments.asked
      or role == FROM_STORE and arguments.answered or {}
    each_argument(names, raw, function(name, from, length)
      local part = range(from, length)
      tree:add(FIELDS[structure.prefix .. name], part, store_text(part))
    end)
  end
  return whole
end

-- The value of a number of a rule; nil where the record is cut before its end.
local function read(buffer, at, number)
  local begin = (number[1] and 0 or at) + number[2]
  if begin + number[3] > buffer:len() then
    return nil
  end
  local range = buffer(begin, number[3])
  return number[4] and range:le_int() or range:le_uint()
end

local function sum(buffer, at, numbers)
  local total = 0
  for _, number in ipairs(numbers) do
    local value = read(buffer, at, number)
    if value == nil then
      return nil
    end
    total = total + value
  end
  return total
end

local function is_broken(buffer, at, rule)
  for _, when in ipairs(rule.when) do
    local value = read(buffer, at, when[1])
    if value == nil or band(value, when[2]) ~= when[3] then
      return false
    end
  end
  local plus, minus = sum(buffer, at, rule.plus), sum(buffer, at, rule.minus)
  if plus == nil or minus == nil then
    return false
  end
  local total = #rule.minus > 0 and (plus - minus) % 4294967296 or plus
  return (rule.low ~= nil and total < rule.low) or (rule.high ~= nil and total > rule.high)
    or (rule.bits ~= 0 and band(total, rule.bits) ~= 0)
    or (rule.among ~= nil and not rule.among[total])
end

local function add_broken(tree, buffer, at, kind)
  local seen = {}
  for _, rule in ipairs(RULES[kind]) do
    if not seen[rule.rule] and is_broken(buffer, at, rule) then
      seen[rule.rule] = true
      tree:add(FIELDS["xennet.broken"], rule.rule):set_generated()
      tree:add_proto_expert_info(broken, rule.rule .. ": " .. rule.what)
    end
  end
end

-- Requests to the store whose answers have not come, by connection and req_id, and which frame
-- answers which.
local waiting, answer_of, request_of

function xennet.init()
  waiting, answer_of, request_of = {}, {}, {}
end

-- Notes on the first pass which request an answer belongs to: the oldest one of its connection with
-- its req_id that has none.
local function match_message(info, connection, role, kind, req_id)
  local key = connection .. "." .. req_id
  local asked = waiting[key]
  if role == TO_STORE then
    asked = asked or { first = 1, last = 0 }
    waiting[key] = asked
    asked.last = asked.last + 1
    asked[asked.last] = { info.number, info.rel_ts }
  elseif kind ~= XS_WATCH_EVENT and asked then
    local one = asked[asked.first]
    asked[asked.first] = nil
    asked.first = asked.first + 1
    if asked.first > asked.last then
      waiting[key] = nil
    end
    answer_of[one[1]] = info.number
    request_of[info.number] = { one[1], info.rel_ts - one[2] }
  end
end

local function add_match(tree, buffer, at, info, role)
  if role ~= TO_STORE and role ~= FROM_STORE or at + 8 > buffer:len() then
    return
  end
  if not info.visited then
    match_message(info, buffer(INDEX[1], INDEX[2]):le_uint(), role,
      buffer(at, 4):le_uint(), buffer(at + 4, 4):le_uint())
  end
  local answer, request = answer_of[info.number], request_of[info.number]
  if role == TO_STORE and answer then
    tree:add(FIELDS["xennet.xs.response_in"], answer):set_generated()
  elseif role == FROM_STORE and request then
    tree:add(FIELDS["xennet.xs.response_to"], request[1]):set_generated()
    local ns = math.floor(request[2] * 1e9 + 0.5)
    local time = NSTime.new(math.floor(ns / 1e9), math.floor(ns % 1e9))
    tree:add(FIELDS["xennet.xs.latency"], time):set_generated()
  end
end

local function add_structure(tree, buffer, at, structure, role)
  local branch = tree:add(FIELDS[structure.filter], buffer(at))
  local variant = structure.variants[-1]
  if structure.selector then
    local begin, size, mask = at + structure.selector[1], structure.selector[2], structure.selector[3]
    if begin + size > buffer:len() then
      return false
    end
    variant = structure.variants[band(buffer(begin, size):le_uint(), mask)] or variant
  end
  local whole = add_leaves(branch, buffer, at, variant)
  if structure.payload then
    whole = add_payload(branch, buffer, at, structure, role) and whole
  end
  return whole and at + structure.size <= buffer:len()
end

local function dissect(buffer, tree, info)
  local whole = add_leaves(tree, buffer, 0, HEADER)
  if buffer:len() < HEADER_SIZE then
    return false
  end
  local version, kind = buffer(0, 1):uint(), buffer(1, 1):uint()
  if version ~= VERSION then
    tree:add_proto_expert_info(unknown, "version " .. version)
    return true
  end
  local lengths = { buffer(HEADER_SIZE - 3, 1):uint(), buffer(HEADER_SIZE - 2, 2):le_uint() }
  local at = HEADER_SIZE
  local found = {}
  for number, name in ipairs({ "xennet.rule", "xennet.text" }) do
    local range, there = bytes_at(buffer, at, lengths[number])
    whole = whole and there
    if range then
      found[number] = printable(range)
      tree:add(FIELDS[name], range, found[number])
    end
    at = at + lengths[number]
  end
  info.cols.info = (KINDS[kind] or "kind " .. kind) .. (found[2] and ": " .. found[2] or "")
  if found[1] then
    tree:add_proto_expert_info(broken, found[1] .. (found[2] and ": " .. found[2] or ""))
  end
  if STRUCTURES[kind] then
    local role = buffer(ROLE[1], ROLE[2]):le_uint()
    whole = at < buffer:len() and add_structure(tree, buffer, at, STRUCTURES[kind], role) and whole
    add_broken(tree, buffer, at, kind)
    if STRUCTURES[kind].payload then
      add_match(tree, buffer, at, info, role)
    end
  elseif not KINDS[kind] then
    tree:add_proto_expert_info(unknown, "kind " .. kind)
  end
  return whole
end

function xennet.dissector(buffer, info, root)
  info.cols.protocol = "XENNET"
  local tree = root:add(xennet, buffer())
  if not dissect(buffer, tree, info) then
    tree:add_proto_expert_info(short)
  end
  return buffer:len()
end

DissectorTable.get("wtap_encap"):add((wtap_encaps or wtap).USER0, xennet)
