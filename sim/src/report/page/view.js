// What of it is looked at: which group and messages, which span of time, which instant, what is selected.

const view = {
  group: model.focus,
  // Who calls whom for a client says little where the replicas themselves went wrong.
  hidden: new Set(headline.oracle === 'raft' ? ['presence', 'chunk', 'call'] : ['presence', 'chunk']),
  cone: model.anchor !== null,
  from: 0,
  until: 1,
  cursor: 0,
  selected: null,
  tab: headline.verdict === 'failed' ? 'Why' : 'Trace',
  onlyShown: true,
};

// The parts of a message that are shown, or none.
function shownParts(message) {
  return message.parts.filter(([group, kind]) => !view.hidden.has(model.kinds[kind])
    && (view.group < 0 || group === view.group || group < 0));
}

const isShown = (message) => shownParts(message).length > 0;

// Whether stepping from event to event stops here.
function eventShown(number) {
  const event = model.events[number];
  switch (event.kind) {
    case 's': return (bySent.get(number) || []).some(isShown);
    case 'd': { const message = byArrived.get(number); return !!message && isShown(message); }
    case 'n': return event.brief !== '' && (view.group < 0 || event.group < 0 || event.group === view.group);
    case 'i': case 'o': { const op = diskByIssued.get(number) || diskByDone.get(number); return !!op && op.kind !== 'read'; }
    case 't': case 'h': return false;
    default: return true;
  }
}

function step(by) {
  let at = view.cursor + by;
  while (at >= 0 && at < model.events.length && !eventShown(at)) at += by;
  if (at >= 0 && at < model.events.length) setCursor(at, true);
}

function setCursor(event, follow) {
  view.cursor = Math.min(Math.max(event, 0), model.events.length - 1);
  if (follow) {
    const at = model.events[view.cursor].at, width = view.until - view.from;
    if (at < view.from || at > view.until) setSpan(at - width / 2, at + width / 2);
  }
  redraw();
}

function setSpan(from, until) {
  const { from: low, until: high } = model.window;
  const pad = Math.max((high - low) * 0.02, 1000);
  const width = Math.min(Math.max(until - from, 2000), high - low + 2 * pad);
  view.from = Math.min(Math.max(from, low - pad), high + pad - width);
  view.until = view.from + width;
  redraw();
}

function zoom(factor, at) {
  const width = (view.until - view.from) * factor;
  const share = (at - view.from) / (view.until - view.from);
  setSpan(at - width * share, at + width * (1 - share));
}

// The violation with the messages that came just before it; without one, everything.
function goHome() {
  if (model.anchor === null || !model.events[model.anchor]) {
    view.cursor = model.events.length - 1;
    return setSpan(model.window.from, model.window.until);
  }
  const at = model.events[model.anchor].at;
  const before = model.messages.filter((message) => isShown(message) && message.sent >= 0
    && message.sent <= model.anchor && (!view.cone || message.arrived === null || inCone(message.arrived)));
  const first = before[Math.max(0, before.length - MESSAGES_AT_FIRST)];
  const from = first ? Math.min(first.sent_at, at - 200000) : at - 10 * MS;
  view.cursor = model.anchor;
  setSpan(from - (at - from) * 0.04, at + (at - from) * 0.1);
}

const MESSAGES_AT_FIRST = 22;
