// Puts it together: what the pointer and the keys do.

let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; render(); });
}

function render() {
  draw();
  showState();
  showTabs();
  const event = model.events[view.cursor];
  byId('scrub').value = view.cursor;
  byId('clock').textContent = event ? `${instant(event.at)}  ${shortly(view.cursor)}` : 'no events';
}

function writeHeadline() {
  const { verdict, sentence, what, oracle, at, seed, bug, command, settings } = headline;
  const of = Object.fromEntries(settings);
  const chip = byId('chip');
  chip.textContent = { failed: '\u00d7 FAILED', passed: '\u2713 PASSED', stopped: 'STOPPED' }[verdict];
  chip.className = verdict;
  byId('sentence').textContent = sentence;
  [byId('what').textContent] = what.split('\n');
  const facts = [verdict === 'failed' ? ['oracle', oracle] : null, ['at', instant(at)], ['seed', seed],
    bug ? ['planted bug', bug] : null,
    ['nodes', of.nodes], ['shards', of.shards.split(' ')[0]], ['workload', `${of.workload}, ${of.clients} clients`],
    ['faults', `${of['faults that struck']} struck`], ['sync', of['sync policy']]].filter(Boolean);
  byId('facts').replaceChildren(...facts.flatMap(([name, value], at) => [at ? ' \u00b7 ' : '', `${name} `, element('b', {}, value)]));
  byId('command').textContent = command;
  byId('copy').onclick = () => {
    const done = () => { byId('copy').textContent = 'Copied'; };
    if (navigator.clipboard) navigator.clipboard.writeText(command).then(done, () => {});
  };
  const { capped, first, from, until, total } = model.window;
  byId('partly').textContent = model.events.length === total ? ''
    : `This page has ${model.events.length} of the run's ${total} events (number ${first + 1} and on), from ${instant(from)} to ${instant(until)}${capped ? ': more do not fit. Choose others with --from, --until and --events.' : ', as asked.'}`;
}

function writeControls() {
  const select = byId('group');
  const busy = new Map();
  for (const { group, rows: series } of model.replicas) busy.set(group, (busy.get(group) || 0) + series.length);
  for (const group of model.groups) {
    select.append(element('option', { value: group }, `${groupName(group)}${group === model.focus && model.anchor !== null ? ', of the violation' : ''} \u00b7 ${busy.get(group)} changes`));
  }
  if (model.groups.length > 1) select.append(element('option', { value: -1 }, 'messages of all groups'));
  select.value = String(view.group);
  select.onchange = () => { view.group = Number(select.value); redraw(); };
  for (const kind of model.kinds) {
    const box = element('input', { type: 'checkbox' });
    box.checked = !view.hidden.has(kind);
    box.onchange = () => { if (box.checked) view.hidden.delete(kind); else view.hidden.add(kind); redraw(); };
    byId('kinds').append(element('label', {}, box, kind));
  }
  byId('cone').checked = view.cone;
  byId('cone').onchange = () => { view.cone = byId('cone').checked; redraw(); };
  if (model.anchor === null) { byId('conebox').hidden = true; byId('home').hidden = true; }
  const middle = () => { const event = model.events[view.cursor]; return event && event.at >= view.from && event.at <= view.until ? event.at : (view.from + view.until) / 2; };
  const actions = { back: () => step(-1), next: () => step(1), in: () => zoom(0.6, middle()), out: () => zoom(1 / 0.6, middle()),
    home: goHome, all: () => setSpan(model.window.from, model.window.until) };
  for (const [id, act] of Object.entries(actions)) byId(id).onclick = act;
  const scrub = byId('scrub');
  scrub.max = Math.max(0, model.events.length - 1);
  scrub.oninput = () => setCursor(Number(scrub.value), true);
  addEventListener('keydown', (event) => {
    if (['INPUT', 'SELECT', 'TEXTAREA'].includes(event.target.tagName) && event.target.type !== 'checkbox') return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const width = view.until - view.from;
    const keys = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), '+': actions.in, '=': actions.in, '-': actions.out, v: goHome, 0: actions.all,
      '[': () => setSpan(view.from - width / 3, view.until - width / 3), ']': () => setSpan(view.from + width / 3, view.until + width / 3) };
    if (keys[event.key]) { keys[event.key](); event.preventDefault(); }
  });
}

// The legend draws what it speaks of.
function writeLegend() {
  const legend = byId('legend');
  legend.replaceChildren();
  const row = (draw, text) => {
    const sample = element('canvas', { width: 56, height: 14 });
    draw(sample.getContext('2d'));
    legend.append(element('div', {}, sample, text));
  };
  const stroke = (kind) => (pen) => { const [dash, thick, colour] = STROKES[kind]; pen.strokeStyle = pen.fillStyle = ink[colour]; pen.lineWidth = thick; pen.setLineDash(dash); arrow(pen, 2, 7, 52, 7, 'arrow'); };
  row(stroke('append'), 'append: entries for a log, and "has up to N"');
  row(stroke('vote'), 'vote: an election');
  row(stroke('heartbeat'), 'heartbeat: the leader says that it leads');
  row(stroke('call'), 'call: a node asks a group\u2019s leader for a client');
  row((pen) => { pen.strokeStyle = pen.fillStyle = ink.bad; pen.lineWidth = 1.5; arrow(pen, 2, 7, 40, 7, 'cross'); }, 'a message that is lost, cut off, or finds its receiver down');
  row((pen) => { pen.fillStyle = ink.lead; pen.fillRect(0, 1, 56, 12); }, 'this node leads the group (tN: its term)');
  row((pen) => { pen.fillStyle = ink.follow; pen.fillRect(0, 1, 56, 12); hatch(pen, 28, 1, 28, 12, ink.candidate, 4); }, 'it follows; hatched: it stands for election');
  row((pen) => { pen.strokeStyle = ink.unsafe; pen.strokeRect(1, 3, 16, 7); hatch(pen, 17, 3, 38, 7, ink.unsafe, 3); }, 'disk, upper row: a write; hatched as long as a power loss could take it');
  row((pen) => { pen.fillStyle = ink.good; pen.fillRect(4, 6, 40, 5); pen.fillRect(43, 0, 2, 14); }, 'disk, lower row: a sync; the tick is when it is done');
  row((pen) => hatch(pen, 0, 0, 56, 14, ink.muted, 6), 'the node is down; wide hatching: paused');
  row((pen) => { pen.fillStyle = ink.ink; pen.beginPath(); pen.moveTo(28, 2); pen.lineTo(33, 7); pen.lineTo(28, 12); pen.lineTo(23, 7); pen.fill(); }, 'a node says what it did');
  row((pen) => { pen.fillStyle = ink.okfill; pen.fillRect(1, 2, 26, 10); hatch(pen, 29, 2, 26, 10, ink.muted, 5); }, 'a client\u2019s request: ok; hatched: outcome unknown; white: refused');
  legend.append(element('div', {}, element('b', {}, 'n1'), ' node 1, ', element('b', {}, 'c2'), ' client 2, ', element('b', {}, 'g3'), ' group 3 (the replicas of a shard), ', element('b', {}, '16@2'), ' log entry 16, written in term 2'),
    element('div', {}, element('b', {}, 'Keys: '), 'left, right: events; + and -: zoom; [ and ]: pan; v: violation; 0: everything. Drag pans, wheel zooms, click selects.'));
}

function find(x, y) {
  const distance = ([x1, y1, x2, y2]) => {
    const length = (x2 - x1) ** 2 + (y2 - y1) ** 2;
    const share = length ? Math.min(1, Math.max(0, ((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / length)) : 0;
    return Math.hypot(x - x1 - share * (x2 - x1), y - y1 - share * (y2 - y1));
  };
  const boxes = marks.filter(({ box }) => box && x >= box[0] - 1 && x <= box[0] + box[2] + 1 && y >= box[1] && y <= box[1] + box[3]);
  if (boxes.length) return boxes.find((mark) => mark.type === 'event') || boxes[boxes.length - 1];
  const near = marks.filter(({ line }) => line).map((mark) => [distance(mark.line), mark]).filter(([far]) => far < 6);
  near.sort((a, b) => a[0] - b[0]);
  return near.length ? near[0][1] : null;
}

function placeOf(event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function watchPointer() {
  let held = null;
  const tip = byId('tip');
  canvas.addEventListener('pointerdown', (event) => { held = { x: event.clientX, from: view.from, until: view.until, moved: false }; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener('pointermove', (event) => {
    const [x, y] = placeOf(event);
    if (held) {
      const by = (event.clientX - held.x) * (held.until - held.from) / (width - GUTTER - RIGHT);
      if (Math.abs(event.clientX - held.x) > 4) held.moved = true;
      if (held.moved) setSpan(held.from - by, held.until - by);
      return;
    }
    const mark = find(x, y);
    tip.hidden = !mark;
    if (!mark) return;
    const lines = describe(mark).filter(([name, value]) => value && name !== 'trace').slice(0, 6);
    tip.replaceChildren(...lines.map(([name, value]) => element('div', {}, `${name} `, element('b', {}, String(value)))));
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8)}px`;
  });
  canvas.addEventListener('pointerleave', () => { tip.hidden = true; });
  canvas.addEventListener('pointerup', (event) => {
    const click = held && !held.moved;
    held = null;
    if (!click) return;
    const [x, y] = placeOf(event);
    const mark = find(x, y);
    view.selected = mark;
    if (mark) {
      view.tab = 'Selected';
      const number = { message: () => mark.of.arrived ?? mark.of.sent, event: () => mark.of, call: () => mark.of.asked[0], disk: () => mark.of.issued[0], fault: () => mark.of.event }[mark.type]();
      if (number >= 0 && number < model.events.length) view.cursor = number;
    } else if (x > GUTTER) {
      view.cursor = eventAt(atOf(x));
    }
    redraw();
  });
  canvas.addEventListener('wheel', (event) => {
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      const by = (event.deltaX || event.deltaY) / width * (view.until - view.from);
      setSpan(view.from + by, view.until + by);
    } else {
      zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, atOf(placeOf(event)[0]));
    }
    event.preventDefault();
  }, { passive: false });
  const jump = (event) => {
    if (event.type === 'pointermove' && event.buttons === 0) return;
    const box = overview.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * model.window.end, half = (view.until - view.from) / 2;
    view.cursor = eventAt(at);
    setSpan(at - half, at + half);
  };
  overview.addEventListener('pointerdown', jump);
  overview.addEventListener('pointermove', jump);
}

function begin() {
  readInk();
  writeHeadline();
  writeControls();
  writeLegend();
  watchPointer();
  if (model.events.length === 0) { byId('clock').textContent = 'no events in this part of the run'; return; }
  goHome();
  addEventListener('resize', redraw);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { readInk(); writeLegend(); redraw(); });
}

begin();
