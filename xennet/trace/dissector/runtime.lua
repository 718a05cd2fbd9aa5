-- What reads records by the tables above. Numbers are taken by the fields themselves, 64-bit ones
-- too: a number of Lua 5.2 holds 53 bits.
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
  for _, variant in pairs(structure.variants) do
    for _, leaf in ipairs(variant) do
      define_leaf(leaf)
    end
  end
  if structure.payload then
    define(structure.payload_name, ProtoField.bytes(structure.payload_name, "payload"))
    define(structure.string_name, ProtoField.string(structure.string_name, "string"))
  end
end

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

-- Bytes as text: all but printable ASCII as \xNN.
local function printable(range)
  return (range:raw():gsub("[^\32-\126]", function(byte)
    return string.format("\\x%02x", byte:byte())
  end))
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

local function add_payload(tree, buffer, at, structure)
  local begin = at + structure.payload[1]
  if begin + structure.payload[2] > buffer:len() then
    return false
  end
  local range, whole = bytes_at(buffer, at + structure.size,
    buffer(begin, structure.payload[2]):le_uint())
  if range then
    tree:add(FIELDS[structure.payload_name], range)
    local from = 0
    local raw = range:raw()
    while from < #raw do
      local stop = raw:find("\0", from + 1, true) or #raw + 1
      if stop - 1 > from then
        local part = range(from, stop - 1 - from)
        tree:add(FIELDS[structure.string_name], part, printable(part))
      end
      from = stop
    end
  end
  return whole
end

local function add_structure(tree, buffer, at, structure)
  local branch = tree:add(xennet, buffer(math.min(at, buffer:len())), structure.name)
  local variant = structure.variants[-1]
  if structure.selector then
    local begin, size, mask = at + structure.selector[1], structure.selector[2], structure.selector[3]
    if begin + size > buffer:len() then
      return false
    end
    variant = structure.variants[bit32.band(buffer(begin, size):le_uint(), mask)] or variant
  end
  local whole = add_leaves(branch, buffer, at, variant)
  if structure.payload then
    whole = add_payload(branch, buffer, at, structure) and whole
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
    whole = at < buffer:len() and add_structure(tree, buffer, at, STRUCTURES[kind]) and whole
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
