'use strict';
// What the page knows: the model as it was written, and the questions that can be asked of it.

const page = JSON.parse(document.getElementById('data').textContent);
const { headline, model, comparison } = page;
const MS = 1e6;
const ROLES = ['follower', 'candidate', 'leader'];
const byId = (id) => document.getElementById(id);
const nodeName = (node) => (node < 0 ? '' : `n${model.nodes[node]}`);
const groupName = (group) => (group === 0 ? 'g0 (meta)' : `g${group}`);
const instant = (at) => `${(at / MS).toFixed(3)} ms`;

// A span in the unit that fits it.
function span(ns) {
  if (ns >= 1e9) return `${(ns / 1e9).toFixed(2)} s`;
  if (ns >= 1e6) return `${(ns / 1e6).toFixed(2)} ms`;
  return `${(ns / 1e3).toFixed(0)} \u00b5s`;
}

// A line of the trace without the wrapping that every message has.
const plain = (line) => line.replace('PeerMessage { head: ', '').replace(', body: b""', '').replace('Raft([(', '')
  .replace(/Message \{ term: (t\d+), incarnation: \w+, body: /g, '$1 ');

// The last row of a series that holds after an event; rows begin with the event's number.
function lastRow(rows, event) {
  let low = 0, high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle][0] <= event) low = middle + 1; else high = middle;
  }
  return low === 0 ? null : rows[low - 1];
}

// The last event at or before an instant.
function eventAt(at) {
  let low = 0, high = model.events.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (model.events[middle].at <= at) low = middle + 1; else high = middle;
  }
  return Math.max(0, low - 1);
}

const replicas = new Map(model.replicas.map((replica) => [`${replica.node}/${replica.group}`, replica.rows]));
const replicaRows = (node, group) => replicas.get(`${node}/${group}`) || [];
const bySent = new Map();
const byArrived = new Map();
for (const message of model.messages) {
  if (!bySent.has(message.sent)) bySent.set(message.sent, []);
  bySent.get(message.sent).push(message);
  if (message.arrived !== null) byArrived.set(message.arrived, message);
}
const callByAsked = new Map(model.calls.map((call) => [call.asked[0], call]));
const callByEnded = new Map(model.calls.filter((call) => call.ended).map((call) => [call.ended[0], call]));
const diskByIssued = new Map(model.disk.map((op) => [op.issued[0], op]));
const diskByDone = new Map(model.disk.filter((op) => op.done).map((op) => [op.done[0], op]));

// Whether an event could have led to the violation. Without one nothing is faded.
const inCone = (event) => model.anchor === null || event < 0 || model.cone[event] === '1';

const lifeAt = (node, event) => (lastRow(model.lives[node], event) || [0, 0, 'down'])[2];

// Peers that a node can't reach or hear now.
function cutAt(node, event) {
  const row = lastRow(model.cuts, event);
  return row ? cutPeers(row[2], model.nodes[node]) : [];
}

function cutPeers(pairs, id) {
  const peers = new Set();
  for (const [from, to] of pairs) {
    if (from === id) peers.add(to);
    if (to === id) peers.add(from);
  }
  return [...peers].sort((a, b) => a - b);
}

const peersOf = (peers) => (peers.length > 1 && peers.length === model.nodes.length - 1 ? 'all'
  : peers.map((peer) => `n${peer}`).join(' '));

// What a node's disk has under way, and how many written bytes no sync covers yet.
function diskAt(node, event) {
  let queue = 0, dirty = 0;
  for (const op of model.disk) {
    if (op.node !== node || op.issued[0] > event) continue;
    if (!op.done || op.done[0] > event) { queue += 1; continue; }
    if (op.kind === 'write' && !op.failed && (!op.synced || op.synced[0] > event)) dirty += op.bytes;
  }
  return { queue, dirty };
}

const openAt = (node, event) => model.calls.filter((call) => call.node === node && call.asked[0] <= event
  && (!call.ended || call.ended[0] > event)).length;

// Everything that a row of the state table says.
function stateAt(node, group, event) {
  const row = lastRow(replicaRows(node, group), event);
  const life = lifeAt(node, event);
  const leads = lastRow(model.leads[node], event);
  const replica = row && {
    role: ROLES[row[2]], term: row[3], leader: row[4], commit: row[5], applied: row[6],
    last: row[7], durable: row[8], abstains: row[9],
  };
  return {
    life, replica, cut: cutAt(node, event), open: openAt(node, event),
    leads: leads ? leads[2] : 0, ...diskAt(node, event),
  };
}
