// The picture: lanes, messages, disks, clients, faults. Everything drawn leaves a mark that can be found again by
// the pointer.

const stage = byId('stage');
const canvas = byId('diagram');
const overview = byId('overview');
const GUTTER = 132, RIGHT = 14, AXIS = 20, FAULT = 15, FAULT_ROWS = 6, CLIENT = 15;
const NODE = model.nodes.length <= 3 ? 92 : model.nodes.length <= 5 ? 78 : 66;
const SMALL = '10.5px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace';
const TEXT = '12px system-ui, "DejaVu Sans", sans-serif';
let ink = {};
let marks = [];
let width = 0;
let rows = { faults: [], crowded: 0, nodes: [], clients: new Map(), height: 0 };

// How each family of messages is drawn: dashes, thickness, colour.
const STROKES = {
  vote: [[7, 3], 1.6, 'candidate'], append: [[], 1.8, 'lead'], heartbeat: [[2, 3], 1.2, 'beat'],
  call: [[], 1.1, 'call'], snapshot: [[10, 3, 2, 3], 2, 'bulk'], chunk: [[4, 2], 1.4, 'bulk'],
  presence: [[1, 4], 1, 'beat'],
};

function readInk() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ['ground', 'raised', 'ink', 'muted', 'line', 'bad', 'good', 'lead', 'leadtext', 'candidate',
    'follow', 'unsafe', 'call', 'bulk', 'beat', 'okfill', 'hover']) {
    ink[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

const xOf = (at) => GUTTER + (at - view.from) / (view.until - view.from) * (width - GUTTER - RIGHT);
const atOf = (x) => view.from + (x - GUTTER) / (width - GUTTER - RIGHT) * (view.until - view.from);
const clampX = (x) => Math.min(Math.max(x, GUTTER), width - RIGHT);

function prepare(target, height) {
  const ratio = window.devicePixelRatio || 1;
  const wide = target.clientWidth;
  if (target.width !== Math.round(wide * ratio) || target.height !== Math.round(height * ratio)) {
    target.width = Math.round(wide * ratio);
    target.height = Math.round(height * ratio);
    target.style.height = `${height}px`;
  }
  const pen = target.getContext('2d');
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, wide, height);
  return [pen, wide];
}

const faultText = (fault) => `${fault.number}: ${fault.text}`;

// Faults in rows in which none overlaps another, and a lane for each node and client that has something to show.
function layOut() {
  const shown = model.faults.filter((fault) => fault.at <= view.until && (fault.until ?? fault.at) >= view.from);
  const ends = [];
  const pen = canvas.getContext('2d');
  pen.font = SMALL;
  rows.faults = shown.map((fault) => {
    const from = clampX(xOf(fault.at));
    const until = Math.max(clampX(xOf(fault.until ?? fault.at)), from + pen.measureText(faultText(fault)).width + 16);
    let row = ends.findIndex((end) => end < from);
    if (row < 0) row = ends.length;
    ends[row] = until;
    return { fault, row };
  });
  rows.crowded = rows.faults.filter(({ row }) => row >= FAULT_ROWS).length;
  rows.faults = rows.faults.filter(({ row }) => row < FAULT_ROWS);
  let y = AXIS + Math.min(Math.max(1, ends.length), FAULT_ROWS) * FAULT + 4;
  rows.nodes = model.nodes.map((_, node) => ({ node, y: y + node * NODE }));
  y += model.nodes.length * NODE + 4;
  const asking = model.clients.filter((client) => model.calls.some((call) => call.client === client
    && call.asked[1] <= view.until && (!call.ended || call.ended[1] >= view.from)));
  rows.clients = new Map(asking.map((client, at) => [client, y + at * CLIENT]));
  rows.height = y + Math.max(1, asking.length) * CLIENT + 4;
}

const baseline = (node) => rows.nodes[node].y + 16 + (NODE - 46) / 2 + 6;
const diskTop = (node) => rows.nodes[node].y + NODE - 22;

function hatch(pen, x, y, w, h, colour, gap) {
  if (w <= 0) return;
  pen.save();
  pen.beginPath(); pen.rect(x, y, w, h); pen.clip();
  pen.strokeStyle = colour; pen.lineWidth = 1; pen.beginPath();
  for (let at = x - h; at < x + w; at += gap) { pen.moveTo(at, y + h); pen.lineTo(at + h, y); }
  pen.stroke(); pen.restore();
}

function fitted(pen, text, x, y, room) {
  if (room < 14) return;
  let shown = text;
  if (pen.measureText(shown).width > room) {
    const letters = Math.floor(room / pen.measureText('m').width) - 1;
    if (letters < 2) return;
    shown = `${shown.slice(0, letters)}\u2026`;
  }
  pen.fillText(shown, x, y);
}

// Calls draw(from, until, row) for each stretch of a series in view.
function stretches(series, draw) {
  series.forEach((row, at) => {
    const from = row[1], until = at + 1 < series.length ? series[at + 1][1] : model.window.end + 1;
    if (until >= view.from && from <= view.until && until > from) draw(clampX(xOf(from)), clampX(xOf(until)), row);
  });
}

function drawAxis(pen) {
  const target = (view.until - view.from) / 10;
  const power = 10 ** Math.floor(Math.log10(target));
  const tick = [1, 2, 5, 10].map((by) => by * power).find((by) => by >= target);
  const digits = Math.max(0, Math.min(6, -Math.floor(Math.log10(tick / MS))));
  pen.font = SMALL; pen.textBaseline = 'middle';
  for (let at = Math.ceil(view.from / tick) * tick; at <= view.until; at += tick) {
    const x = xOf(at);
    pen.strokeStyle = ink.line; pen.globalAlpha = 0.5; pen.lineWidth = 1;
    pen.beginPath(); pen.moveTo(x, AXIS - 4); pen.lineTo(x, rows.height); pen.stroke();
    pen.globalAlpha = 1; pen.fillStyle = ink.muted;
    if (x < width - 60) pen.fillText((at / MS).toFixed(digits), x + 3, 9);
  }
  pen.fillText('milliseconds', 8, 9);
}

function drawFaults(pen) {
  pen.font = SMALL; pen.textBaseline = 'middle';
  pen.fillStyle = ink.muted;
  pen.fillText(rows.faults.length ? 'faults' : 'no fault here', 8, AXIS + 7);
  if (rows.crowded) pen.fillText(`and ${rows.crowded} more`, 8, AXIS + 7 + FAULT);
  for (const { fault, row } of rows.faults) {
    const y = AXIS + row * FAULT, from = clampX(xOf(fault.at)), until = clampX(xOf(fault.until ?? fault.at));
    hatch(pen, from, y + 1, until - from, FAULT - 3, ink.unsafe, 5);
    pen.strokeStyle = ink.unsafe; pen.lineWidth = 1;
    pen.strokeRect(from + 0.5, y + 1.5, Math.max(2, until - from), FAULT - 4);
    const text = faultText(fault);
    const wide = pen.measureText(text).width + 6, left = Math.min(from + 4, width - wide - 4);
    pen.fillStyle = ink.ground; pen.fillRect(left, y + 2, wide, FAULT - 5);
    pen.fillStyle = ink.ink; pen.fillText(text, left + 3, y + FAULT / 2);
    marks.push({ type: 'fault', of: fault, box: [from, y, Math.max(until - from, wide + 6), FAULT] });
  }
}

function drawNode(pen, node) {
  const { y } = rows.nodes[node];
  pen.fillStyle = ink.line; pen.fillRect(0, y - 2, width, 1);
  pen.font = SMALL; pen.textBaseline = 'middle';
  const group = view.group < 0 ? model.focus : view.group;
  stretches(replicaRows(node, group), (from, until, row) => {
    const role = row[2];
    pen.fillStyle = role === 2 ? ink.lead : ink.follow;
    pen.fillRect(from, y, until - from, 13);
    if (role === 1) hatch(pen, from, y, until - from, 13, ink.candidate, 4);
  });
  // One label for as long as role, term and leader stay.
  const spans = [];
  stretches(replicaRows(node, group), (from, until, row) => {
    const text = row[2] === 2 ? `leads t${row[3]}` : row[2] === 1 ? `candidate t${row[3]}`
      : row[4] ? `follows n${row[4]} t${row[3]}` : `no leader t${row[3]}`;
    const last = spans[spans.length - 1];
    if (last && last.text === text && Math.abs(last.until - from) < 1) last.until = until;
    else spans.push({ text, from, until, role: row[2] });
  });
  for (const { text, from, until, role } of spans) {
    pen.fillStyle = ink.ground; pen.fillRect(from, y, 1, 13);
    if (role === 1 && until - from > 40) {
      pen.fillStyle = ink.follow; pen.fillRect(from + 3, y + 1, Math.min(until - from - 6, 96), 11);
    }
    pen.fillStyle = role === 2 ? ink.leadtext : ink.ink;
    fitted(pen, text, from + 5, y + 7, until - from - 8);
  }
  pen.strokeStyle = ink.ink; pen.lineWidth = 1; pen.globalAlpha = 0.55;
  pen.beginPath(); pen.moveTo(GUTTER, baseline(node)); pen.lineTo(width - RIGHT, baseline(node)); pen.stroke();
  pen.globalAlpha = 1;
  drawDisk(pen, node, group);
  stretches(model.lives[node], (from, until, row) => {
    if (row[2] === 'up') return;
    pen.fillStyle = ink.ground; pen.globalAlpha = 0.8; pen.fillRect(from, y, until - from, NODE - 4); pen.globalAlpha = 1;
    hatch(pen, from, y, until - from, NODE - 4, ink.muted, row[2] === 'down' ? 6 : 14);
    const middle = baseline(node) + 15;
    if (until - from > 60) { pen.fillStyle = ink.ground; pen.fillRect(from + 4, middle - 8, 54, 16); }
    pen.fillStyle = ink.ink; pen.font = `600 ${TEXT}`; fitted(pen, row[2], from + 8, middle, until - from - 8);
    pen.font = SMALL;
  });
  stretches(model.cuts, (from, until, row) => {
    const peers = cutPeers(row[2], model.nodes[node]);
    if (peers.length === 0 || until - from < 1) return;
    pen.strokeStyle = ink.unsafe; pen.lineWidth = 3; pen.setLineDash([3, 3]);
    pen.beginPath(); pen.moveTo(from, y + 16); pen.lineTo(until, y + 16); pen.stroke(); pen.setLineDash([]);
    pen.fillStyle = ink.unsafe;
    fitted(pen, `cut from ${peersOf(peers)}`, from + 3, y + 24, until - from - 6);
  });
  drawGutter(pen, node, group);
}

function drawDisk(pen, node, group) {
  const y = diskTop(node);
  pen.lineWidth = 1;
  for (const op of model.disk) {
    if (op.node !== node || op.kind === 'read' || op.kind === 'other') continue;
    const ends = op.synced ? op.synced[1] : op.done ? op.done[1] : model.window.end;
    if (ends < view.from || op.issued[1] > view.until) continue;
    const from = clampX(xOf(op.issued[1])), done = clampX(xOf(op.done ? op.done[1] : view.until));
    pen.globalAlpha = view.cone && op.issued[0] >= 0 && !inCone(op.issued[0]) ? 0.25 : 1;
    if (op.kind === 'write') {
      const safe = clampX(xOf(op.synced ? op.synced[1] : view.until));
      if (op.done && !op.failed) hatch(pen, done, y, safe - done, 6, ink.unsafe, 3);
      pen.strokeStyle = op.failed ? ink.bad : ink.unsafe;
      pen.strokeRect(from + 0.5, y + 0.5, Math.max(2, done - from), 5);
      marks.push({ type: 'disk', of: op, box: [from, y - 1, Math.max(5, safe - from), 8] });
    } else {
      pen.fillStyle = op.failed ? ink.bad : ink.good;
      pen.fillRect(from, y + 9, Math.max(2, done - from), 5);
      if (op.done && !op.failed) pen.fillRect(done - 1, y - 1, 2, 16);
      marks.push({ type: 'disk', of: op, box: [from, y + 7, Math.max(5, done - from), 9] });
    }
  }
  pen.globalAlpha = 1;
}

// What the log has and what a power loss would leave of it, whenever either changes.
function logLabels() {
  const labels = [], group = view.group < 0 ? model.focus : view.group;
  for (const { node } of rows.nodes) {
    let before = '';
    stretches(replicaRows(node, group), (from, until, row) => {
      const text = row[7] === row[8] ? `log ${row[7]}` : `log ${row[7]}, safe ${row[8]}`;
      if (text === before || until - from < 6 || lifeAt(node, Math.max(0, row[0])) === 'down') return;
      before = text;
      labels.push({ text, x1: from, x2: from, y1: diskTop(node) - 7, y2: diskTop(node) - 7, weight: 6, at: row[1], left: true, colour: row[7] === row[8] ? ink.muted : ink.unsafe });
    });
  }
  return labels;
}

function drawGutter(pen, node, group) {
  const { y } = rows.nodes[node];
  const { life, replica, leads, cut } = stateAt(node, group, view.cursor);
  pen.fillStyle = ink.ground; pen.fillRect(0, y - 1, GUTTER - 2, NODE - 1);
  pen.textBaseline = 'alphabetic';
  pen.fillStyle = ink.ink; pen.font = '700 15px system-ui, sans-serif';
  pen.fillText(nodeName(node), 8, y + 14);
  pen.font = TEXT; pen.fillStyle = ink.muted;
  const role = life !== 'up' ? life : replica ? `${replica.role} t${replica.term}` : 'no replica';
  pen.fillText(role, 34, y + 13);
  pen.font = '11px system-ui, sans-serif';
  if (cut.length) { pen.fillStyle = ink.unsafe; pen.fillText(`cut from ${peersOf(cut)}`, 8, y + 29); pen.fillStyle = ink.muted; }
  if (model.groups.length > 1) {
    pen.fillText(`leads ${leads} of ${model.groups.length}`, 8, y + 43);
    pen.strokeStyle = ink.line; pen.strokeRect(8.5, y + 46.5, 100, 4);
    pen.fillStyle = ink.lead; pen.fillRect(8.5, y + 46.5, 100 * leads / model.groups.length, 4);
    pen.fillStyle = ink.muted;
  }
  if (replica && life !== 'down') {
    pen.fillStyle = replica.last > replica.durable ? ink.unsafe : ink.muted;
    pen.fillText(`log ${replica.last}, safe ${replica.durable}`, 8, y + (model.groups.length > 1 ? 63 : 47));
  }
  pen.font = '9.5px system-ui, sans-serif'; pen.textAlign = 'right'; pen.fillStyle = ink.muted;
  pen.fillText('written', GUTTER - 5, diskTop(node) + 6);
  pen.fillText('synced', GUTTER - 5, diskTop(node) + 15);
  pen.textAlign = 'left';
}

function arrow(pen, x1, y1, x2, y2, head) {
  pen.beginPath(); pen.moveTo(x1, y1); pen.lineTo(x2, y2); pen.stroke();
  const angle = Math.atan2(y2 - y1, x2 - x1);
  pen.setLineDash([]);
  if (head === 'arrow') {
    pen.beginPath(); pen.moveTo(x2, y2);
    pen.lineTo(x2 - 8 * Math.cos(angle - 0.35), y2 - 8 * Math.sin(angle - 0.35));
    pen.lineTo(x2 - 8 * Math.cos(angle + 0.35), y2 - 8 * Math.sin(angle + 0.35));
    pen.fill();
  } else {
    pen.lineWidth = 2.2; pen.beginPath();
    pen.moveTo(x2 - 5, y2 - 5); pen.lineTo(x2 + 5, y2 + 5); pen.moveTo(x2 - 5, y2 + 5); pen.lineTo(x2 + 5, y2 - 5);
    pen.stroke();
  }
}

// Draws the arrows; the words on them come later.
function drawMessages(pen) {
  const labels = [];
  for (const message of model.messages) {
    const end = message.end_at ?? model.window.end;
    const parts = shownParts(message);
    if (parts.length === 0 || message.sent_at > view.until || (message.fate !== 'lost' && end < view.from)) continue;
    const gone = message.fate === 'lost' || (message.fate === 'cut' && message.end_at === null);
    const from = baseline(message.from), to = baseline(message.to);
    let x1 = xOf(message.sent_at), x2 = xOf(end), y1 = from, y2 = to, head = 'arrow';
    if (gone) {
      x2 = x1 + 26; y2 = from + (to - from) * 0.35; head = 'cross';
      if (x1 < GUTTER || x2 < GUTTER) continue;
    } else if (message.fate !== 'arrived') {
      head = message.fate === 'underway' ? 'arrow' : 'cross';
      y2 = to - Math.sign(to - from) * 8;
    }
    const [dash, thick, colour] = STROKES[model.kinds[parts[0][1]]];
    const related = message.arrived === null ? !view.cone || message.sent < 0 || inCone(message.sent) : inCone(message.arrived);
    const chosen = view.selected && view.selected.of === message;
    pen.save();
    pen.beginPath(); pen.rect(GUTTER, 0, width - GUTTER - RIGHT + 6, rows.height); pen.clip();
    pen.globalAlpha = view.cone && !related ? 0.2 : 1;
    pen.strokeStyle = pen.fillStyle = gone || head === 'cross' ? ink.bad : ink[colour];
    pen.lineWidth = chosen ? thick + 2 : thick; pen.setLineDash(dash);
    arrow(pen, x1, y1, x2, y2, head);
    pen.restore();
    marks.push({ type: 'message', of: message, line: [x1, y1, x2, y2] });
    const fate = gone ? (message.fate === 'cut' ? 'cut: ' : 'lost: ') : message.fate === 'cut' ? 'cut: '
      : message.fate === 'down' ? 'receiver down: ' : '';
    const more = parts.length > 1 ? ` +${parts.length - 1}` : '';
    const weight = { vote: 0, append: 1, snapshot: 1, call: 2, chunk: 3, heartbeat: 4, presence: 5 }[model.kinds[parts[0][1]]];
    if (related) labels.push({ text: fate + onArrow(parts[0][2]) + more, x: (x1 + x2) / 2, y: (y1 + y2) / 2, weight, x1, y1, x2, y2, at: message.sent_at });
  }
  return labels;
}

// Where on an arrow its words may be, and how much of them before it.
const PLACES = [0.5, 0.3, 0.7, 0.2, 0.8, 0.12, 0.88].flatMap((share) => [0.5, 0.85, 0.15].map((before) => [share, before]));

// What an arrow says: an entry that has the message's own term needs no second one, and details are for the pointer.
const onArrow = (text) => text.replace(/ commit \d+/, '').replace(/(@(\d+)) t\2$/, '$1');

// Words on arrows where they find room, those that matter most first.
function drawLabels(pen, labels, taken) {
  if (labels.length > 260) return;
  rows.nodes.forEach(({ y }) => taken.push([GUTTER, y - 2, width, y + 14]));
  // Words never hide what a disk had done.
  for (const { type, box } of marks) if (type === 'disk') taken.push([box[0], box[1], box[0] + box[2], box[1] + box[3]]);
  pen.font = SMALL; pen.textBaseline = 'middle';
  labels.sort((a, b) => a.weight - b.weight || b.at - a.at);
  const meets = (box) => (other) => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1];
  const place = (label) => {
    const wide = pen.measureText(label.text).width + 4;
    for (const [share, before] of label.left ? [[0, 0]] : PLACES) {
      const x = label.x1 + (label.x2 - label.x1) * share, y = label.y1 + (label.y2 - label.y1) * share;
      const left = label.left ? x : Math.min(Math.max(x - wide * before, GUTTER + 2), width - RIGHT - wide);
      const box = [left, y - 6, left + wide, y + 6];
      if (x < GUTTER || x > width - 4 || box[2] > width || taken.some(meets(box))) continue;
      taken.push(box);
      pen.fillStyle = ink.ground; pen.globalAlpha = 0.86; pen.fillRect(box[0], box[1], wide, 12); pen.globalAlpha = 1;
      pen.fillStyle = label.colour || ink.ink; pen.fillText(label.text, box[0] + 2, y);
      return;
    }
  };
  labels.forEach(place);
}

// What machines say, on their lanes. Where words are now.
function drawNotes(pen) {
  const taken = [];
  const first = eventAt(view.from), last = eventAt(view.until);
  const clear = new Map();
  pen.font = `600 ${SMALL}`; pen.textBaseline = 'middle';
  for (let at = first; at <= last; at += 1) {
    const event = model.events[at];
    if (event.at < view.from || event.node < 0 || !eventShown(at) || !['n', 'b', 'x'].includes(event.kind)) continue;
    const x = xOf(event.at), y = baseline(event.node);
    pen.globalAlpha = view.cone && !inCone(at) ? 0.3 : 1;
    pen.fillStyle = ink.ink;
    pen.beginPath(); pen.moveTo(x, y - 5); pen.lineTo(x + 5, y); pen.lineTo(x, y + 5); pen.lineTo(x - 5, y); pen.fill();
    const text = event.kind === 'b' ? 'boots' : event.kind === 'x' ? 'goes down' : event.brief;
    const wide = pen.measureText(text).width;
    if ((clear.get(event.node) ?? -1) < x && x + wide + 8 < width && pen.globalAlpha === 1) {
      pen.fillStyle = ink.ground; pen.fillRect(x + 6, y - 18, wide + 3, 12);
      pen.fillStyle = ink.ink; pen.fillText(text, x + 7, y - 12);
      clear.set(event.node, x + wide + 12);
      taken.push([x + 5, y - 19, x + wide + 10, y - 5]);
    }
    marks.push({ type: 'event', of: at, box: [x - 5, y - 6, 10, 12] });
  }
  pen.globalAlpha = 1;
  return taken;
}

function drawClients(pen) {
  pen.font = SMALL; pen.textBaseline = 'middle';
  for (const [client, y] of rows.clients) {
    pen.fillStyle = ink.ground; pen.fillRect(0, y, GUTTER - 2, CLIENT);
    pen.fillStyle = ink.muted; pen.fillText(`client c${client}`, 8, y + CLIENT / 2);
  }
  for (const call of model.calls) {
    const y = rows.clients.get(call.client), end = call.ended ? call.ended[1] : model.window.end;
    if (y === undefined || call.asked[1] > view.until || end < view.from) continue;
    const from = clampX(xOf(call.asked[1])), wide = Math.max(3, clampX(xOf(end)) - from);
    pen.globalAlpha = view.cone && call.asked[0] >= 0 && !inCone(call.asked[0]) ? 0.35 : 1;
    if (call.outcome === 'ok') { pen.fillStyle = ink.okfill; pen.fillRect(from, y + 2, wide, CLIENT - 4); }
    if (call.outcome === 'unknown' || call.outcome === 'open') hatch(pen, from, y + 2, wide, CLIENT - 4, ink.muted, 8);
    pen.strokeStyle = call.outcome === 'ok' ? ink.good : ink.muted; pen.lineWidth = 1;
    pen.setLineDash(call.outcome === 'open' ? [3, 3] : []);
    pen.strokeRect(from + 0.5, y + 2.5, wide, CLIENT - 5); pen.setLineDash([]);
    const text = `${{ ok: 'ok', refused: 'refused', unknown: 'unknown?', open: 'open' }[call.outcome]} ${nodeName(call.node)} ${call.text}`;
    const room = Math.min(pen.measureText(text).width, wide - 8);
    if (room > 20 && call.outcome !== 'ok' && call.outcome !== 'refused') { pen.fillStyle = ink.ground; pen.fillRect(from + 2, y + 3, room + 5, CLIENT - 6); }
    pen.fillStyle = ink.ink;
    fitted(pen, text, from + 4, y + CLIENT / 2 + 0.5, wide - 6);
    pen.globalAlpha = 1;
    marks.push({ type: 'call', of: call, box: [from, y, wide, CLIENT] });
  }
}

function drawCursor(pen) {
  const event = model.events[view.cursor];
  const line = (at, colour, thick, text) => {
    const x = xOf(at);
    if (x < GUTTER - 1 || x > width - RIGHT + 1) return;
    pen.strokeStyle = colour; pen.lineWidth = thick;
    pen.beginPath(); pen.moveTo(x, AXIS - 4); pen.lineTo(x, rows.height); pen.stroke();
    pen.font = `600 ${SMALL}`; pen.textBaseline = 'middle';
    // The violation's flag points on, the other's back, so that neither covers the other.
    const wide = pen.measureText(text).width + 8;
    const left = Math.min(Math.max(colour === ink.bad ? x : x - wide, 0), width - wide);
    pen.fillStyle = colour; pen.fillRect(left, 1, wide, 15);
    pen.fillStyle = ink.ground; pen.fillText(text, left + 4, 9);
  };
  if (event && view.cursor !== model.anchor) line(event.at, ink.ink, 1, `here ${(event.at / MS).toFixed(3)}`);
  const anchor = model.events[model.anchor];
  if (!anchor) return;
  line(anchor.at, ink.bad, 2, 'violation');
  if (anchor.node >= 0 && xOf(anchor.at) >= GUTTER) {
    pen.strokeStyle = ink.bad; pen.lineWidth = 2.5; pen.beginPath();
    pen.arc(xOf(anchor.at), baseline(anchor.node), 10, 0, 7); pen.stroke();
  }
}

function drawOverview() {
  const [pen, wide] = prepare(overview, 34);
  const scale = (at) => 2 + at / Math.max(1, model.window.end) * (wide - 4);
  const bins = new Array(Math.max(1, Math.floor(wide / 3))).fill(0);
  for (const event of model.events) bins[Math.min(bins.length - 1, Math.floor(scale(event.at) / 3))] += 1;
  const most = Math.max(...bins);
  pen.fillStyle = ink.raised; pen.fillRect(0, 0, wide, 34);
  pen.fillStyle = ink.beat; pen.globalAlpha = 0.6;
  bins.forEach((count, at) => { const high = 20 * Math.sqrt(count / most); pen.fillRect(at * 3, 34 - high, 2, high); });
  pen.globalAlpha = 1;
  for (const fault of model.faults) {
    const x = scale(fault.at), until = scale(fault.until ?? fault.at);
    hatch(pen, x, 2, Math.max(2, until - x), 6, ink.unsafe, 4);
    pen.fillStyle = ink.unsafe; pen.fillRect(x, 1, 1.5, 8);
  }
  const { from, until, total, capped } = model.window;
  pen.fillStyle = ink.ground; pen.globalAlpha = 0.75;
  if (capped || from > 0) { pen.fillRect(0, 0, Math.max(0, scale(from)), 34); pen.fillRect(scale(until), 0, wide - scale(until), 34); }
  pen.globalAlpha = 1; pen.strokeStyle = ink.lead; pen.lineWidth = 2;
  const left = scale(view.from), right = Math.max(left + 3, scale(view.until));
  pen.strokeRect(left, 1, right - left, 32);
  const anchor = model.events[model.anchor];
  if (anchor) { pen.fillStyle = ink.bad; pen.fillRect(scale(anchor.at) - 1, 0, 2.5, 34); }
  pen.font = SMALL; pen.fillStyle = ink.muted; pen.textBaseline = 'middle';
  const text = `whole run: ${span(model.window.end)}, ${total} events`;
  const x = left > wide / 2 ? 6 : wide - pen.measureText(text).width - 6;
  pen.fillStyle = ink.raised; pen.fillRect(x - 3, 11, pen.measureText(text).width + 6, 13);
  pen.fillStyle = ink.ink; pen.fillText(text, x, 18);
}

function draw() {
  width = canvas.clientWidth;
  layOut();
  const [pen] = prepare(canvas, rows.height);
  marks = [];
  drawAxis(pen);
  drawFaults(pen);
  rows.nodes.forEach(({ node }) => drawNode(pen, node));
  const labels = drawMessages(pen);
  drawLabels(pen, labels.concat(logLabels()), drawNotes(pen));
  drawClients(pen);
  drawCursor(pen);
  drawOverview();
}
