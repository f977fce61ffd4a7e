// The room's panel: who is here, what is said, a field to say something.

import { Chat } from "./chat.js";
import { Menu } from "./chat-menu.js";
import { Rows, hueOfUser, part, swatchOf } from "./chat-rows.js";
import { durationText, refusalText, typingText, visibleText } from "./chat-words.js";
import { claimsOf } from "./token.js";
import { closeText } from "./words.js";

const TICK_MS = 250;
const MEMBERS_SHOWN = 40;
const MUTE_S = 600;
const BAN_S = 3600;
/** Nearer to the end than this counts as there. */
const END_PX = 24;

const element = (id) => document.getElementById(`chat-${id}`);

export class ChatPanel {
  #chat = null;
  #isModerator = false;
  #options;
  #findCause;
  #hueOf;
  #log;
  #menu = new Menu();
  #form = element("enter");
  #scroll = element("scroll");
  #text = element("text");
  #rows;
  #isEndSeen = false;
  #isDrawing = false;
  #followsEnd = true;
  #membersShown = "";

  /**
   * `options()` gives relay, user, name, token and WebSocket as the page has them now; `cause(before)` says in three sentences why a
   * connection did not come about; `refusals()` is what `cause` compares with; `log` is the page's; `hueOf(user)` is the colour of who plays.
   */
  constructor({ options, refusals, cause, log, changed, hueOf }) {
    this.#options = options;
    this.#hueOf = (user) => hueOf(user) ?? hueOfUser(user);
    this.#findCause = { refusals, cause };
    this.#log = log;
    this.changed = changed;
    this.#rows = new Rows(element("list"), {
      open: (button, message) => this.#menu.open(button, "Message", this.#messageItems(message)),
      edit: (id, body) => this.#try("The edit", this.#chat.edit(id, body)),
      again: (entry) => this.#chat.outbox.again(entry),
      discard: (entry) => this.#chat.outbox.discard(entry),
      hueOf: (user) => this.#hueOf(user),
      done: () => this.#text.focus({ preventScroll: true }),
    });
    this.#listen();
    setInterval(() => this.#tick(), TICK_MS);
  }

  get room() {
    return this.#chat?.room ?? null;
  }

  /** For tests and the curious. */
  get state() {
    return this.#chat && { state: this.#chat.state, user: this.#chat.userId, unread: this.#chat.unread, line: this.#chat.line };
  }

  /** The room of that name is what the form proposes, unless somebody wrote another one. */
  propose(room) {
    if (!this.#form.room.dataset.chosen) this.#form.room.value = room || "lobby";
  }

  async enter() {
    const room = this.#form.room.value.trim() || "lobby";
    const options = { ...this.#options(), room };
    if (!URL.canParse(options.relay)) return this.#trouble("The relay's address is not one", "See “Relay and token” in the form.", "");
    this.#isModerator = claimsOf(options.token).moderator === true;
    this.#note(null);
    const before = await this.#findCause.refusals();
    if (this.#chat) return;
    const whileCurrent = (handle) => (...details) => (chat === undefined || chat === this.#chat ? handle(...details) : undefined);
    let chat;
    chat = new Chat(options, {
      changed: whileCurrent(() => this.#draw()),
      log: whileCurrent((kind, text) => this.#log.add(kind, text)),
      ended: whileCurrent((how) => this.#ended(how, before)),
    });
    this.#chat = chat;
    this.#followsEnd = true;
    this.#draw();
    this.#text.focus({ preventScroll: true });
  }

  leave() {
    this.#chat?.leave();
    this.#forget();
  }

  /** Who plays has the colour that it has on the map. */
  recolor() {
    for (const swatch of element("talk").querySelectorAll(".swatch")) swatch.style.setProperty("--hue", this.#hueOf(swatch.dataset.user));
  }

  // ------------------------------------------------------------------------------------------------------------ input

  #listen() {
    const say = element("say");
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.#chat) this.enter();
    });
    this.#form.room.addEventListener("input", ({ target }) => (target.dataset.chosen = "yes"));
    element("exit").addEventListener("click", () => this.leave());
    say.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#say();
    });
    this.#text.addEventListener("keydown", (event) => this.#key(event));
    this.#text.addEventListener("input", () => this.#chat?.typed(this.#text.value === ""));
    element("older").addEventListener("click", () => this.#loadOlder());
    element("down").addEventListener("click", () => this.#toEnd());
    element("missed-show").addEventListener("click", () => this.#rows.lineElement?.scrollIntoView({ block: "center" }));
    element("missed-hide").addEventListener("click", () => this.#chat?.forgetMissed());
    element("note-hide").addEventListener("click", () => this.#note(null));
    this.#scroll.addEventListener("scroll", () => (this.#followsEnd = this.#isAtEnd));
    new ResizeObserver(() => this.#followsEnd && this.#toEnd()).observe(this.#scroll);
    new IntersectionObserver((entries) => {
      this.#isEndSeen = entries.at(-1).isIntersecting;
      this.#watch();
    }).observe(element("end"));
    for (const event of ["focus", "blur"]) addEventListener(event, () => this.#watch());
    document.addEventListener("visibilitychange", () => this.#watch());
  }

  #key(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.#say();
    } else if (event.key === "ArrowUp" && this.#text.value === "") {
      const own = this.#chat?.messages.list.findLast(({ user_id: user, deleted }) => user === this.#chat.userId && !deleted);
      if (!own) return;
      event.preventDefault();
      this.#rows.edit(own);
    }
  }

  #say() {
    const body = this.#text.value;
    if (!this.#chat || !body.trim()) return;
    this.#text.value = "";
    this.#followsEnd = true;
    this.#chat.say(body);
  }

  async #loadOlder() {
    const chat = this.#chat;
    const fromEnd = this.#scroll.scrollHeight - this.#scroll.scrollTop;
    await this.#try("Older messages", chat.loadOlder());
    if (chat !== this.#chat) return;
    this.#show();
    // What was read stays where it is.
    this.#scroll.scrollTop = this.#scroll.scrollHeight - fromEnd;
  }

  /** Tells the room whether somebody looks at its end. */
  #watch() {
    element("down").hidden = this.#isEndSeen || !this.#chat || this.#followsEnd;
    this.#chat?.watch(this.#isEndSeen && document.visibilityState === "visible" && document.hasFocus());
  }

  // ------------------------------------------------------------------------------------------------------ what can be done

  #messageItems(message) {
    const items = [];
    const isOwn = message.user_id === this.#chat.userId;
    if (isOwn) items.push({ text: "Edit", act: () => this.#rows.edit(message) });
    if (isOwn || this.#isModerator)
      items.push({ text: "Delete", isGrave: true, act: () => this.#try("The deletion", this.#chat.delete(message.id)) });
    if (!isOwn && this.#isModerator) items.push(...this.#userItems(message.user_id, message.name));
    return items;
  }

  #userItems(user, name) {
    const who = visibleText(name);
    const act = (what, seconds, done) => () => this.#try(`${what} ${who}`, this.#chat.moderate(what, user, seconds), done);
    return [
      { text: `Mute for ${durationText(MUTE_S * 1000)}`, act: act("mute", MUTE_S, `${who} is muted for ${durationText(MUTE_S * 1000)}.`) },
      { text: "Unmute", act: act("unmute", undefined, `${who} may speak again.`) },
      { text: `Ban for ${durationText(BAN_S * 1000)}`, isGrave: true, act: act("ban", BAN_S, `${who} is banned for ${durationText(BAN_S * 1000)}.`) },
      { text: "Ban for good", isGrave: true, act: act("ban", undefined, `${who} is banned until somebody lifts it.`) },
      { text: "Unban", act: act("unban", undefined, `${who} may come back.`) },
    ];
  }

  /** Says what has become of something that was asked for. */
  async #try(what, promise, done) {
    try {
      await promise;
      if (done) this.#note(done);
    } catch (refusal) {
      const again = refusal.retry_after !== undefined ? ` Try again in ${durationText(refusal.retry_after)}.` : "";
      this.#note(`${what[0].toUpperCase()}${what.slice(1)} was refused: ${refusalText(refusal)}.${again}`, true);
    }
  }

  // --------------------------------------------------------------------------------------------------------------- end

  async #ended({ code, reason, denied, opened, everJoined }, before) {
    const { room } = this.#chat;
    this.#forget();
    if (denied) {
      this.#log.add("error", `room ${room}: ${denied.reason}`);
      return this.#trouble(everJoined ? "You are out of the room" : "The room refuses you", `${sentence(refusalText(denied))}`, "");
    }
    if (everJoined || opened || code !== 1006) {
      this.#log.add("close", `room ${room}: ${closeText({ code, reason })}`);
      return this.#trouble("The relay closed the connection", `${closeText({ code, reason })}.`, "");
    }
    this.#trouble(...(await this.#findCause.cause(before)));
  }

  #forget() {
    this.#chat = null;
    this.#rows.clear();
    this.#menu.close();
    this.#membersShown = "";
    this.#draw();
  }

  #trouble(title, text, remedy) {
    this.#note(`${title}. ${text} ${remedy}`, true);
  }

  #note(text, isBad = false) {
    element("note").hidden = text === null;
    element("note").dataset.kind = isBad ? "bad" : "good";
    element("note-text").textContent = text ?? "";
  }

  // ----------------------------------------------------------------------------------------------------------- showing

  /** Many events at once are one drawing. */
  #draw() {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    requestAnimationFrame(() => {
      this.#isDrawing = false;
      this.#show();
    });
  }

  #show() {
    const chat = this.#chat;
    for (const id of ["head", "talk", "say"]) element(id).hidden = chat === null;
    this.#form.hidden = chat !== null;
    const unread = chat?.unread ?? 0;
    element("badge").hidden = unread === 0;
    element("badge").textContent = unread > 99 ? "99+" : String(unread);
    element("name").textContent = chat?.room ?? "";
    this.#showState();
    this.changed();
    if (!chat) return;
    this.#showMembers(chat);
    element("older").hidden = !chat.messages.hasOlder;
    element("older").disabled = chat.isLoadingOlder;
    element("missed").hidden = chat.missed === 0;
    element("missed-text").textContent = `You missed ${chat.missed} ${chat.missed === 1 ? "message" : "messages"}.`;
    element("empty").hidden = chat.state !== "joined" || chat.messages.list.length + chat.outbox.entries.length > 0;
    this.#rows.show(chat, (message) => message.user_id === chat.userId || this.#isModerator);
    element("typing").textContent = typingText([...chat.typing.keys()].map((user) => visibleText(chat.nameOf(user))));
    if (this.#followsEnd) this.#toEnd();
    this.#watch();
  }

  #showState() {
    const { state = "none", retryAt = null } = this.#chat ?? {};
    const seconds = Math.max(0, Math.ceil(((retryAt ?? 0) - performance.now()) / 1000));
    const text = { joining: "Joining…", joined: "", waiting: seconds > 0 ? `Connection lost. Trying again in ${seconds} s.` : "Connection lost. Trying again…" };
    element("state").textContent = text[state] ?? "";
    element("panel").dataset.state = state;
  }

  #showMembers(chat) {
    const count = chat.crowd ?? chat.members.size;
    element("count").textContent = chat.state === "joined" ? `${count} here` : "";
    const members = chat.crowd === null ? [...chat.members] : [];
    const chips = members.slice(0, MEMBERS_SHOWN).map(([user, member]) => this.#chip(user, member));
    if (members.length > MEMBERS_SHOWN) chips.push(part("li", "rest", `and ${members.length - MEMBERS_SHOWN} more`));
    if (chat.crowd !== null) chips.push(part("li", "rest", "A crowd: the room says how many, no longer who."));
    const shown = JSON.stringify([chat.userId, chat.crowd, members.slice(0, MEMBERS_SHOWN), members.length]);
    if (this.#membersShown === shown) return;
    this.#membersShown = shown;
    element("members").replaceChildren(...chips);
  }

  #chip(user, { name, status, devices }) {
    const item = part("li", "member");
    const isOwn = user === this.#chat.userId;
    const canAct = this.#isModerator && !isOwn;
    const box = part(canAct ? "button" : "span", "chip");
    box.append(swatchOf(user, this.#hueOf(user)), part("bdi", "name", visibleText(name)));
    if (isOwn) box.append(part("span", "you", "you"));
    box.title = `user ${visibleText(user)}, ${visibleText(status)}${devices > 1 ? `, ${devices} connections` : ""}`;
    item.dataset.status = status;
    if (canAct) {
      box.type = "button";
      box.setAttribute("aria-haspopup", "menu");
      box.setAttribute("aria-expanded", "false");
      box.addEventListener("click", () => this.#menu.open(box, `Moderate ${visibleText(name)}`, this.#userItems(user, name)));
    }
    item.append(box);
    return item;
  }

  get #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    return scrollHeight - scrollTop - clientHeight < END_PX;
  }

  #toEnd() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
    this.#followsEnd = true;
  }

  #tick() {
    if (!this.#chat) return;
    this.#showState();
    this.#rows.tick(this.#chat.outbox, performance.now());
  }
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}
