// The panels below the picture: the nodes' state, what is selected, trace, faults, the nearest passing run.

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === 'onclick') made.onclick = value; else if (value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const table = (heads, lines) => element('table', {},
  element('thead', {}, element('tr', {}, ...heads.map((head) => element('th', { class: head.startsWith('<') ? 'left' : null }, head.replace('<', ''))))),
  element('tbody', {}, ...lines));

const cell = (text, kind) => element('td', { class: kind || null }, String(text));

function roleOf(replica, node) {
  const of = replica.role === 'follower' ? (replica.leader && replica.leader !== model.nodes[node] ? ` of n${replica.leader}` : ', no leader') : '';
  return `${replica.role}${of}${replica.abstains ? ', abstains' : ''}`;
}

function showState() {
  const group = view.group < 0 ? model.focus : view.group;
  const event = model.events[view.cursor];
  const lines = model.nodes.map((_, node) => {
    const state = stateAt(node, group, view.cursor);
    const { replica } = state;
    const life = state.life + (state.cut.length ? `, cut: ${peersOf(state.cut)}` : '');
    const known = replica && state.life !== 'down';
    const unsafe = replica ? replica.last - replica.durable : 0;
    const show = (value) => (known ? value : '\u2013');
    return element('tr', {},
      cell(nodeName(node)), cell(life, state.life === 'up' && !state.cut.length ? 'left' : 'left bad'),
      cell(known ? roleOf(replica, node) : '\u2013', 'left'), cell(show(replica && replica.term)),
      cell(show(replica && replica.commit)), cell(show(replica && replica.applied)),
      cell(show(replica && replica.last)),
      cell(replica ? `${replica.durable}${unsafe > 0 && known ? ` (${unsafe} unsafe)` : ''}` : '\u2013', unsafe > 0 && known ? 'unsafe' : null),
      cell(state.open), cell(state.queue), cell(state.dirty ? `${(state.dirty / 1024).toFixed(1)} KiB` : '0', state.dirty ? 'unsafe' : null));
  });
  byId('state').replaceChildren(
    element('h2', {}, `Nodes at ${instant(event.at)}, group ${groupName(group)}`),
    table(['node', '<is', '<role', 'term', 'commit', 'applied', 'log end', 'durable', 'requests', 'disk queue', 'not synced'], lines),
    element('p', { class: 'muted' }, 'Log end is the last entry in memory; durable is what a power loss would leave of the log. Requests are those it has not answered; not synced are bytes in files that no sync covers yet.'));
}

const TABS = {
  Why: showWhy, Selected: showSelected, Trace: showTrace, Faults: showFaults, 'Nearest passing run': showNearest, Run: showRun,
};

function showTabs() {
  const names = Object.keys(TABS).filter((name) => model.anchor !== null || !['Why', 'Nearest passing run'].includes(name));
  byId('tabs').replaceChildren(...names.map((name) => element('button', {
    type: 'button', role: 'tab', 'aria-selected': String(view.tab === name), onclick: () => { view.tab = name; redraw(); },
  }, name)));
  TABS[view.tab](byId('panel'));
}

const traceLine = (at, here) => element('div', { class: here ? 'here' : null, title: model.events[at].line,
  onclick: () => setCursor(at, true) }, `${(model.events[at].at / MS).toFixed(6)} ${plain(model.events[at].line)}`);

// What an event is about, for the list of last causes.
function inGroup(at) {
  const event = model.events[at], group = view.group < 0 ? model.focus : view.group;
  const has = (message) => message.parts.some((part) => part[0] === group);
  if (event.kind === 's') return (bySent.get(at) || []).some(has);
  if (event.kind === 'd') return !!byArrived.get(at) && has(byArrived.get(at));
  if (event.kind === 'n') return event.group === group;
  return ['x', 'b', 'q', 'r', 'f'].includes(event.kind);
}

// Trace lines are long: what a message says is short.
function shortly(at) {
  const event = model.events[at], group = view.group < 0 ? model.focus : view.group;
  const message = event.kind === 's' ? (bySent.get(at) || [])[0] : byArrived.get(at);
  const said = (of) => (of.parts.find((part) => part[0] === group) || of.parts[0])[2];
  if (event.kind === 's' && message) return `${nodeName(message.from)} to ${nodeName(message.to)}: ${said(message)}${message.arrived === null ? ` (${message.fate})` : ''}`;
  if (event.kind === 'd' && message) return `${nodeName(message.to)} hears from ${nodeName(message.from)}: ${said(message)}`;
  if (event.kind === 'n' && event.brief) return `${nodeName(event.node)} ${event.brief}`;
  return event.line;
}

// What the oracle has to say beyond the headline: the operations that it could not put in order, say. A line with an
// instant leads there.
function oracleLines() {
  const lines = headline.what.split('\n').slice(1, 40).map((line) => line.trim());
  const stuck = lines.filter((line) => line.startsWith('but'));
  return [...stuck, ...lines.filter((line) => !stuck.includes(line)).reverse()].map((line) => {
    const text = line.replace(/b"((?:\\.|[^"\\]){20})(?:\\.|[^"\\])*"/g, 'b"$1\u2026"');
    const at = /(\d+)\.(\d{6})ms/.exec(line);
    return element('div', { title: line, onclick: at && (() => setCursor(eventAt(Number(at[1]) * MS + Number(at[2])), true)) }, text);
  });
}

function showWhy(panel) {
  const lines = [];
  for (let at = Math.min(model.anchor, model.events.length - 1); at >= 0 && lines.length < 12; at -= 1) {
    if (model.cone[at] === '1' && inGroup(at)) lines.unshift(at);
  }
  const nearest = comparison && comparison.nearest;
  const told = oracleLines();
  panel.replaceChildren(
    ...(told.length ? [element('p', {}, `What the oracle ${headline.oracle} could not explain, and then what came before, the last first:`), element('div', { class: 'lines oracle' }, ...told)] : []),
    element('p', {}, `${model.cone_size} of the run's ${model.window.total} events could have led to it. The last of them about ${groupName(view.group < 0 ? model.focus : view.group)}:`),
    element('div', { class: 'lines' }, ...lines.map((at) => element('div', { class: at === view.cursor ? 'here' : null, title: model.events[at].line, onclick: () => setCursor(at, true) },
      `${(model.events[at].at / MS).toFixed(3)}  ${shortly(at)}`))),
    element('p', {}, element('b', {}, 'What made the difference: '), nearest
      ? `${nearest.without === 'the planted bug' ? 'no run with fewer faults passes; ' : ''}without ${nearest.without} the run passes. Both runs are equal for ${nearest.common} events, up to ${instant(nearest.at)}. `
      : 'no run with one choice less passes. ',
    element('button', { type: 'button', onclick: () => { view.tab = 'Nearest passing run'; redraw(); } }, 'Compare')));
}

function definition(pairs) {
  return element('dl', {}, ...pairs.filter(([, value]) => value !== null && value !== undefined && value !== '')
    .flatMap(([name, value]) => [element('dt', {}, name), element('dd', {}, String(value))]));
}

function describe(mark) {
  const { type, of } = mark;
  if (type === 'message') {
    return [['message', `${nodeName(of.from)} to ${nodeName(of.to)}`], ['sent', instant(of.sent_at)],
      [{ arrived: 'arrived', underway: 'arrives', lost: 'lost', cut: 'stopped by a cut', down: 'receiver was down' }[of.fate],
        of.end_at === null ? (of.fate === 'lost' || of.fate === 'cut' ? 'at once' : 'after the end of the run') : `${instant(of.end_at)}, after ${span(of.end_at - of.sent_at)}`],
      ...of.parts.slice(0, 12).map(([group, kind, text]) => [`${model.kinds[kind]}${group < 0 ? '' : ` g${group}`}`, text]),
      ['', of.parts.length > 12 ? `and ${of.parts.length - 12} more groups` : ''],
      ['trace', model.events[of.sent] ? model.events[of.sent].line : '']];
  }
  if (type === 'disk') {
    return [[of.kind, `${nodeName(of.node)} ${of.file || 'directory'}`], ['bytes', of.bytes || null], ['issued', instant(of.issued[1])],
      [of.failed ? 'failed or lost in a crash' : 'done', of.done ? `${instant(of.done[1])}, after ${span(of.done[1] - of.issued[1])}` : 'not in this run'],
      ['durable', of.kind !== 'write' ? null : of.synced ? `${instant(of.synced[1])}, ${span(of.synced[1] - of.issued[1])} after the write` : 'never in this run']];
  }
  if (type === 'call') {
    return [['request', `c${of.client} asks ${nodeName(of.node)}: ${of.text}`], ['asked', instant(of.asked[1])],
      ['ended', of.ended ? `${instant(of.ended[1])}, after ${span(of.ended[1] - of.asked[1])}` : 'open'], ['outcome', of.outcome],
      ['answer', of.answer], ['trace', model.events[of.asked[0]] ? model.events[of.asked[0]].line : '']];
  }
  if (type === 'fault') {
    return [['fault', `${of.number}: ${of.text}`], ['strikes', instant(of.at)], ['lasts', of.until ? `${span(of.until - of.at)}, until ${instant(of.until)}` : 'a moment'],
      ['without it', verdictWithout(of.number)]];
  }
  const event = model.events[of];
  return [['event', event.brief || event.line], ['at', instant(event.at)], ['node', nodeName(event.node)], ['group', event.group < 0 ? null : groupName(event.group)], ['trace', event.line]];
}

function verdictWithout(number) {
  const tried = comparison && comparison.tried.find((one) => one.fault === number);
  if (!tried) return null;
  return { passes: 'the run passes', same: 'the same oracle still objects', other: 'another oracle objects' }[tried.verdict];
}

function showSelected(panel) {
  panel.replaceChildren(view.selected ? definition(describe(view.selected))
    : element('p', { class: 'muted' }, 'Click anything in the picture.'));
}

function showTrace(panel) {
  const keep = element('input', { type: 'checkbox', id: 'only' });
  keep.checked = view.onlyShown;
  keep.onchange = () => { view.onlyShown = keep.checked; redraw(); };
  const shown = [];
  const first = eventAt(view.from), last = eventAt(view.until);
  const fits = (at) => at === view.cursor || !view.onlyShown || eventShown(at);
  for (let at = view.cursor; at >= first && shown.length < 150; at -= 1) if (fits(at)) shown.unshift(at);
  for (let at = view.cursor + 1, more = 0; at <= last && more < 150; at += 1) if (fits(at)) { shown.push(at); more += 1; }
  const lines = element('div', { class: 'lines' }, ...shown.map((at) => traceLine(at, at === view.cursor)));
  panel.replaceChildren(element('label', {}, keep, ' only what the picture shows; the span in view, around the instant'), lines);
  const here = lines.querySelector('.here');
  if (here) panel.scrollTop = Math.max(0, here.offsetTop - panel.offsetTop - 60);
}

function showFaults(panel) {
  const lines = model.faults.map((fault) => element('tr', { onclick: () => setCursor(eventAt(fault.at), true) },
    cell(fault.number), cell(fault.text, 'left wrap'), cell((fault.at / MS).toFixed(1)),
    cell(fault.until ? (fault.until / MS).toFixed(1) : ''), cell(verdictWithout(fault.number) || '', `left wrap${verdictWithout(fault.number) === 'the run passes' ? ' good' : ''}`)));
  panel.replaceChildren(lines.length ? table(['#', '<what', 'from ms', 'to ms', '<without it'], lines)
    : element('p', {}, 'No fault lies over this part of the run.'));
}

function shorten(line) {
  const text = plain(line);
  return text.length > 150 ? `${text.slice(0, 150)}\u2026` : text;
}

function showNearest(panel) {
  if (!comparison) return panel.replaceChildren();
  const { nearest, tried, untried } = comparison;
  const head = [];
  if (nearest) {
    const side = (title, kind, lines) => element('div', { class: kind }, element('b', {}, title),
      element('div', { class: 'lines' }, ...lines.map((line) => element('div', { title: line }, shorten(line)))));
    head.push(element('p', {}, 'The same run without ', element('b', {}, nearest.without), ` passes. The two are equal for ${nearest.common} events; they part at ${instant(nearest.at)}. `,
      element('button', { type: 'button', onclick: () => setCursor(eventAt(nearest.at), true) }, 'Go there')),
    element('div', { class: 'lines' }, ...nearest.before.map((line) => element('div', { class: 'far', title: line }, shorten(line)))),
    element('div', { class: 'pair' }, side('this run, which fails', 'fails', nearest.failing), side(`without ${nearest.without}`, 'passes', nearest.passing)));
  } else {
    head.push(element('p', {}, 'No run with one choice less passes: it takes fewer than any of these to fail.'));
  }
  const verdicts = { passes: 'passes', same: 'fails the same', other: 'fails otherwise' };
  const lines = tried.map((one) => element('tr', {}, cell(one.without, 'left wrap'),
    cell(verdicts[one.verdict], one.verdict === 'passes' ? 'left good' : 'left'), cell((one.at / MS).toFixed(3)), cell(one.common), cell(one.what, 'left wrap')));
  panel.replaceChildren(...head, element('h2', {}, `What was tried${untried ? `; ${untried} more faults were not` : ''}`),
    table(['<without', '<the run', 'parts at ms', 'equal events', '<what is wrong then'], lines));
}

function showRun(panel) {
  panel.replaceChildren(definition([['seed', headline.seed], ['planted bug', headline.bug], ...headline.settings, ['history hash', headline.history_hash]]));
}
