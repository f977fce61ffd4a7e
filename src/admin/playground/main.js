// The playground: joins one game, in either dialect, and shows all that the relay says about it.

import { ChatPanel } from "./chat-view.js";
import { uniqueId } from "./chat-outbox.js";
import { NativeGame } from "./corelay.mjs";
import { listenToCode, showCode } from "./code.js";
import { Figures } from "./figures.js";
import { Games } from "./games.js";
import { Measurements } from "./measurements.js";
import { Network, meteredWebSocket } from "./meter.js";
import { Log, Roster } from "./panels.js";
import { PhoenixGame } from "./phoenix-game.js";
import { Play } from "./play.js";
import { aboutRelay, causeOf, ownListener, refusals, relayUrl } from "./relay.js";
import { keepSideShown } from "./sides.js";
import { hueOf } from "./stage.js";
import { TextPanel } from "./text-view.js";
import { closeText, pageToTrust, troubleOf } from "./words.js";

const WAVE_CODE = 1;
const OBJECTS_PER_PLAYER = 8;
/** From the player, as a part of what it sees. */
const OBJECT_DISTANCE = 0.07;
const METERS_INTERVAL_MS = 1000;
const ROSTER_INTERVAL_MS = 200;
/** So many names per second, of what the relay takes as events. */
const NAMES_ASKED = 64;
const TYPING_MS = 3000;
const CUT_MS = 3000;
const NAMES = ["Ada", "Björn", "Chidi", "Dana", "Emre", "Fen", "Goro", "Hana", "Ines", "Jun", "Kofi", "Lena", "Mila", "Noor"];

const element = (id) => document.getElementById(id);
const form = element("join");
const dialectOf = () => document.querySelector("input[name=dialect]:checked").value;

const play = new Play(element("stage"), () => wave("👋"));
const roster = new Roster();
const log = new Log();
const traffic = { in: 0, out: 0 };
const network = new Network();
const measurements = new Measurements(traffic, play.known);
const figures = new Figures((cells) => {
  play.lookFarther(cells);
  showFigures();
});

// They are this page's own relay's.
const games = new Games(() => !form.hidden && isOwnRelay(form.relay.value.trim()), joinListed);

/** What the panels beside the game's have from the page. */
const beside = {
  // What they cost is not the game's: the meters count without it.
  options: () => ({ ...whoAndWhere(), WebSocket: meteredWebSocket({ in: 0, out: 0 }, network) }),
  refusals,
  cause: async (before) => troubleTexts(await whyNot(before)),
  log,
  changed: besideChanged,
  hueOf: (user) => [...players].filter(([, player]) => player.user === user).map(([id]) => hueOf(id))[0],
};
const chat = new ChatPanel(beside);
const text = new TextPanel(beside);

let about = null; // what /playground.json says
let game = null; // NativeGame or PhoenixGame while joined or joining
let me = null; // {playerId, tickHz, bounds, maxSpeed, layout} while joined
let players = new Map();
let crowd = null; // how many there are, where the relay does not list them
let crowdNames = new Map(); // what those of a crowd are called that were asked for
let objectsPut = 0;
let bannerUntil = null;
let lost = null; // how the connection was lost that is being waited for: {opened}
let wanted = null; // what was asked for: {dialect, relay, game, name, token}

// ------------------------------------------------------------------------------------------------------------- joining

async function begin() {
  const dialect = dialectOf();
  const options = { ...whoAndWhere(), game: form.elements.game.value.trim(), WebSocket: meteredWebSocket(traffic, network) };
  element("trouble").hidden = true;
  const nameIsGood = form.elements.game.checkValidity();
  element("game-problem").hidden = nameIsGood;
  form.elements.game.setAttribute("aria-invalid", String(!nameIsGood));
  if (!nameIsGood) return form.elements.game.focus();
  if (!/^wss?:\/\/[^/]+\/?$/.test(options.relay) || !URL.canParse(options.relay)) return showTrouble({ kind: "address" });
  for (const [key, value] of Object.entries({ game: options.game, dialect })) localStorage.setItem(key, value);
  sessionStorage.setItem("name", options.name);

  wanted = { ...options, dialect };
  showState("joining", "Joining…");
  const refusedBefore = await refusals();
  if (game) return;
  const Dialect = dialect === "native" ? NativeGame : PhoenixGame;
  let current;
  // What a connection says that was given up meanwhile is of no interest.
  const whileCurrent = (handle) => (details, more) => current === undefined || current === game ? handle(details, more) : undefined;
  const handlers = Object.fromEntries(Object.entries(handlersFor(options, dialect, refusedBefore)).map(([kind, handle]) => [kind, whileCurrent(handle)]));
  current = new Dialect(options, handlers);
  game = current;
}

/** The form's answer to where to connect, and as whom. */
function whoAndWhere() {
  const valueOf = (key) => form.elements[key].value.trim();
  sessionStorage.setItem("user", valueOf("user"));
  return { relay: valueOf("relay"), name: valueOf("name"), user: valueOf("user"), token: valueOf("token") };
}

function handlersFor(options, dialect, refusedBefore) {
  return {
    connecting: () => showState("joining", me ? "Reconnecting…" : "Joining…"),
    joined: (welcome) => joined(welcome, options, dialect),
    frame: (frame) => play.frame(frame),
    ack: (ack) => play.ack(ack),
    roster: showRoster,
    names: (named) => (crowdNames = new Map([...crowdNames, ...named])),
    event: showEvent,
    correction(correction) {
      const { reason, x, y } = correction;
      play.correction(correction);
      log.add("correction", `${reason}: the relay holds you at ${x.toFixed(1)}, ${y.toFixed(1)}`);
    },
    limited: ({ what, retryAfterMs }) => log.add("notice", `rate limit for ${what} reached; again in ${Math.ceil(retryAfterMs)} ms`),
    notice: ({ reason, timeoutMs }) =>
      log.add("notice", reason === "drain" ? `the relay drains: closed within ${timeoutMs / 1000} s` : `${reason}: closed after ${timeoutMs / 1000} s`),
    refused: ({ code, text }) => log.add("error", text ? `${code}: ${text}` : code),
    lost: (reason) => log.add("notice", `events were missed and are gone (${reason})`),
    latency: (ms) => (measurements.latency = ms),
    closed: (close) => closed(close, refusedBefore),
  };
}

function joined(welcome, options, dialect) {
  me = welcome;
  play.start(game, welcome);
  bannerUntil = null;
  element("banner").hidden = true;
  form.hidden = true;
  element("hint").hidden = false;
  element("hint-height").hidden = welcome.layout.axes === 2;
  element("leave").hidden = false;
  element("code").hidden = false;
  element("second").hidden = false;
  besideChanged();
  enableSending(true);
  document.title = `${options.game} · corelay playground`;
  element("tick-rate").value = String(welcome.tickHz);
  showFigures();
  showState("joined", `${options.game}, ${dialect === "native" ? "native" : "Phoenix"}`);
  const how = welcome.resumed ? "seat resumed" : "joined";
  log.add("relay", `${how} as player ${welcome.playerId}, ${welcome.tickHz} Hz${welcome.development ? ", development mode" : ""}`);
  game?.ping();
  element("stage").focus({ preventScroll: true });
}

async function closed(close, refusedBefore) {
  play.pause();
  enableSending(false);
  measurements.latency = null;
  if (close.asked) return;
  if (close.everJoined || close.code !== 1006) log.add(close.denied ? "error" : "close", close.denied ?? closeText(close));
  if (close.retryInMs !== null) {
    showState("waiting", "Connection lost");
    lost = close;
    bannerUntil = performance.now() + close.retryInMs;
    element("banner").hidden = false;
    return showBanner();
  }
  game = null;
  end();
  if (close.denied) return showTrouble({ kind: "denied", reason: close.denied });
  if (close.everJoined || close.code !== 1006) return showTrouble({ kind: "closed", ...close });
  showState("idle", "Looking for the cause…");
  const finding = await whyNot(refusedBefore);
  // Somebody may have joined again while the relay was asked.
  if (game === null) showTrouble(finding);
}

/** Why a connection did not come about. */
async function whyNot(refusedBefore) {
  const finding = await causeOf(form.relay.value.trim(), refusedBefore, about, location);
  return { ...finding, own: [about?.relay, about?.relay_tls].filter(Boolean) };
}

/** Back to the form. */
function end() {
  me = null;
  players = new Map();
  crowd = null;
  crowdNames = new Map();
  play.end();
  roster.show(players);
  recolorBeside();
  form.hidden = false;
  for (const id of ["hint", "leave", "code", "second", "banner"]) element(id).hidden = true;
  measurements.clear();
  figures.hide();
  document.title = "corelay playground";
  bannerUntil = null;
  showState("idle", "Not connected");
  games.refresh();
}

function joinListed(name) {
  if (game) return;
  form.elements.game.value = name;
  begin();
}

/** Whether an address is that of the relay whose page this is. */
function isOwnRelay(address) {
  return ownListener(address, about, location) !== null;
}

function leave() {
  const given = game;
  game = null;
  given?.close();
  enableSending(false);
  end();
}

function showTrouble(finding) {
  const [title, text, remedy] = troubleTexts(finding);
  element("trouble-title").textContent = title;
  element("trouble-text").textContent = text;
  element("trouble-remedy").textContent = remedy;
  const toTrust = pageToTrust(finding, form.relay.value.trim());
  element("trouble-link").hidden = toTrust === null;
  if (toTrust) [element("trouble-link").href, element("trouble-link").textContent] = [toTrust, `Open ${toTrust}`];
  element("trouble").hidden = false;
  element("more").open = true;
  showState("failed", title);
  log.add("error", `${title}. ${text}`);
}

function troubleTexts(finding) {
  return troubleOf(finding, { relay: form.relay.value.trim(), origin: location.origin });
}

function showState(state, text) {
  element("status").dataset.state = state;
  element("status-text").textContent = text;
}

function showBanner() {
  const seconds = Math.max(0, (bannerUntil - performance.now()) / 1000);
  const when = seconds > 0 ? `Trying again in ${seconds.toFixed(0)} s.` : "Trying again…";
  // A relay that answers holds the seat; of one that does not nothing is known.
  element("banner").textContent = lost.opened
    ? `Connection lost. ${when} A relay that runs holds your seat for a while.`
    : `${network.isCut ? "The network is cut." : `Nothing answers at ${wanted.relay}.`} ${when}`;
}

// -------------------------------------------------------------------------------------------------------- chat and text

/** The room or the document is another one, or none. */
function besideChanged() {
  enableCutting();
  if (!wanted) return;
  const { game: name, relay, dialect } = wanted;
  const second = new URLSearchParams({ game: name, relay, dialect, ...(chat.room && { room: chat.room }), ...(text.name && { doc: text.name }) });
  element("second").href = `/?${second}`;
}

function recolorBeside() {
  chat.recolor();
  text.recolor();
}

function enableCutting() {
  element("cut").disabled = !me && chat.room === null && text.name === null;
}

// --------------------------------------------------------------------------------------------------------------- others

function showRoster(now, { whole, joined: came, left, crowd: count = null }) {
  const before = players;
  players = now;
  crowd = count;
  roster.show(now, me?.playerId);
  recolorBeside();
  showScopes();
  for (const id of came) if (!whole && id !== me?.playerId && !before.has(id)) log.add("join", now.get(id).name);
  for (const { id, name, reason } of left) log.add("leave", `${name ?? `player ${id}`}: ${reason}`);
}

function showEvent({ code, sender, seq, payload, missed, near }) {
  const text = textOf(payload);
  play.flash(sender, text);
  const which = near ? "near" : `seq ${seq}`;
  log.add("event", `${nameOf(sender)}: ${text || "(empty)"} (code ${code}, ${which}${missed ? ", missed while away" : ""})`);
}

function nameOf(id) {
  return (players.get(id) ?? crowdNames.get(id))?.name || `player ${id}`;
}

/** What the map shows of a player beside its place. */
function shownAs(id) {
  return { name: nameOf(id), away: players.get(id)?.status === "away" };
}

/** Of a crowd nobody says what those are called who come near. */
function askNames() {
  if (crowd === null) return;
  const nameless = play.players(shownAs).map(({ id }) => id).filter((id) => !players.has(id) && !crowdNames.has(id));
  if (nameless.length > 0) game?.who(nameless.slice(0, NAMES_ASKED));
}

/** Payloads are bytes of whoever sent them: JSON {text}, other JSON, text, or nothing readable. */
function textOf(payload) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(payload);
    try {
      return JSON.parse(text)?.text ?? text;
    } catch {
      return text;
    }
  } catch {
    return Array.from(payload.slice(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  }
}

function showScopes() {
  const scope = element("scope");
  const wanted = [["all", "everyone"], ["others", "everyone else"]];
  for (const [id, { name }] of players) if (id !== me?.playerId) wanted.push([String(id), `only ${name}`]);
  const chosen = scope.value;
  scope.replaceChildren(...wanted.map(([value, text]) => new Option(text, value, false, value === chosen)));
}

// -------------------------------------------------------------------------------------------------------------- sending

let typingTimer = null;

function enableSending(enabled) {
  for (const control of element("send").elements) control.disabled = !enabled;
  enableCutting();
  // The native roster has no status to set.
  element("presence").disabled = !enabled || dialectOf() === "native";
  element("presence").value = "online";
  if (!enabled) typed(false);
}

function wave(text) {
  const to = element("scope").value || "all";
  game?.event(WAVE_CODE, new TextEncoder().encode(JSON.stringify({ text })), /^\d+$/.test(to) ? Number(to) : to);
}

function typed(isTyping) {
  const wasTyping = typingTimer !== null;
  clearTimeout(typingTimer);
  typingTimer = isTyping ? setTimeout(() => typed(false), TYPING_MS) : null;
  if (isTyping !== wasTyping) game?.setStatus?.(isTyping ? "typing" : element("presence").value);
}

function putObject() {
  const own = play.ownPlace;
  if (!own) return;
  const slot = objectsPut++ % OBJECTS_PER_PLAYER;
  // Around the player, where it can be seen.
  const angle = (2 * Math.PI * slot) / OBJECTS_PER_PLAYER;
  const within = (value, least, most) => Math.min(most, Math.max(least, value));
  const { minX, minY, maxX, maxY } = me.bounds;
  const x = within(own.x + play.span * OBJECT_DISTANCE * Math.cos(angle), minX, maxX);
  const y = within(own.y + play.span * OBJECT_DISTANCE * Math.sin(angle), minY, maxY);
  // Ids are the game's, not the player's: the own id in front keeps tabs apart.
  const id = me.playerId * 256 + slot;
  game?.putObject({ id, type: slot, x, y });
  log.add("object", `${id} put at ${x.toFixed(1)}, ${y.toFixed(1)}; it goes with you`);
}

// ------------------------------------------------------------------------------------------------------------- the loop

function turn() {
  play.turn(shownAs);
  if (bannerUntil !== null) showBanner();
  requestAnimationFrame(turn);
}

function measure() {
  const isNew = measurements.take(me !== null, crowd ?? players.size);
  if (!isNew) return;
  showFigures();
  askNames();
  game?.ping();
}

function showFigures() {
  if (!me) return;
  const { bytesPerSecond, positionsPerFrame: positions } = measurements;
  const { layout, tickHz } = me;
  figures.show({ known: play.known.size, players: crowd ?? players.size, bytesPerSecond, positions, layout, tickHz, sight: play.sight });
}

// ---------------------------------------------------------------------------------------------------------------- start

function listen() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!game) begin();
  });
  element("leave").addEventListener("click", () => {
    leave();
    log.add("relay", "left");
  });
  form.elements.game.addEventListener("input", () => {
    for (const panel of [chat, text]) panel.propose(form.elements.game.value.trim());
  });
  form.relay.addEventListener("change", () => (isOwnRelay(form.relay.value.trim()) ? games.refresh() : games.hide()));
  element("dialects").addEventListener("change", () => {
    if (!game) return;
    leave();
    begin();
  });
  element("send").addEventListener("submit", (event) => {
    event.preventDefault();
    wave(element("message").value || "hello");
    element("message").value = "";
    typed(false);
  });
  element("message").addEventListener("input", () => typed(true));
  element("presence").addEventListener("change", ({ target }) => game?.setStatus?.(target.value));
  element("drop").addEventListener("click", putObject);
  element("cut").addEventListener("click", () => {
    log.add("notice", `the connection is cut for ${CUT_MS / 1000} s`);
    network.cut(CUT_MS);
  });
  element("added-latency").addEventListener("change", ({ target }) => (network.addedLatencyMs = Number(target.value)));
  element("code").addEventListener("click", () => showCode({ ...wanted, token: wanted.token !== "" }));
  listenToCode();
  element("stage").addEventListener("pointerdown", () => (element("hint").hidden = true));
}

async function start() {
  const query = new URLSearchParams(location.search);
  const remembered = (key) => query.get(key) ?? localStorage.getItem(key);
  form.elements.game.value = remembered("game") ?? "playground";
  form.elements.name.value = query.get("name") ?? sessionStorage.getItem("name") ?? NAMES[Math.floor(Math.random() * NAMES.length)];
  // Of this tab: who comes back is the same user, and a second tab is another one.
  form.elements.user.value = query.get("user") ?? sessionStorage.getItem("user") ?? `${form.elements.name.value.replace(/[^\w-]/g, "").toLowerCase() || "user"}-${uniqueId().slice(0, 6)}`;
  chat.propose(query.get("room") ?? form.elements.game.value);
  text.propose(query.get("doc") ?? form.elements.game.value);
  keepSideShown();
  const dialect = document.querySelector(`input[name=dialect][value="${remembered("dialect") === "phoenix" ? "phoenix" : "native"}"]`);
  dialect.checked = true;
  showScopes();
  listen();
  setInterval(measure, METERS_INTERVAL_MS);
  setInterval(() => roster.showPositions((id) => (id === me?.playerId && play.ownPlace) || play.known.latestOf(id)), ROSTER_INTERVAL_MS);
  requestAnimationFrame(turn);
  about = await aboutRelay();
  if (about) element("version").textContent = `corelay ${about.version}`;
  // A relay that was remembered may be another page's; only an address of the link is taken as it is.
  form.relay.value = query.get("relay") ?? (about ? relayUrl(about, location) : `ws://${location.hostname}:4000`);
  games.refresh();
}

/** For tests and the curious: copies of what the page knows. */
window.playground = Object.freeze({
  state: () => element("status").dataset.state,
  me: () => me && { playerId: me.playerId, resumed: me.resumed, epoch: me.epoch },
  players: () => play.players(shownAs).map(({ id, name, x, y, z, pose, me: own, age }) => ({ id, name, x, y, z, pose: pose && [...pose], me: own, age })),
  sight: () => ({ radius: play.sight.radius, cell: play.sight.cell, level: play.sight.level }),
  overview: () => play.overview.map(({ id, x, y }) => ({ id, x, y })),
  objects: () => [...play.known.objects].map(([id, { x, y }]) => ({ id, x, y })),
  roster: () => [...players].map(([id, { name, status = "online" }]) => ({ id, name, status })),
  chat: () => chat.state,
  text: () => text.state,
  toWorld: (clientX, clientY) => play.toWorld(clientX, clientY),
});

start();
