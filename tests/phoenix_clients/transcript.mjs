// What passes between client and relay in one case, with what differs from run to run replaced by placeholders, so that the same
// conversation can be had again without Node. README.md says how the lines are read.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const FOLDER = join(import.meta.dirname, "transcripts");

/** Members whose values are numbered by value: the same value is the same placeholder. */
const NUMBERED = /"(epoch|resume_token|phx_ref|phx_ref_prev|player_id|sender|to|id)":("[^"]*"|\d+)/g;
/** Members that are times. Two of them may or may not be equal: they are not numbered. */
const TIMES = /"(joined_at|timestamp|inserted_at)":("[^"]*"|[\d.]+)/g;
const GUESTS = /"(guest-\d+)"/g;
const PLAYER_KEYS = new Set(["player_id", "sender", "to"]);

export class Transcript {
  #lines = [];
  #sockets = 0;
  #placeholders = new Map();
  #counts = new Map();
  #ended = false;

  /** `relay`: `open` or `keyed`, the first line says it. */
  constructor(relay) {
    this.#lines.push({ dir: "relay", mode: relay });
  }

  addSocket() {
    return this.#sockets++;
  }

  record(socket, dir, what) {
    if (this.#ended) return;
    const line = { dir, socket, ...what };
    if (what.text !== undefined) line.text = this.#replaceText(what.text);
    if (what.binary !== undefined) line.binary = this.#replaceBinary(dir, Buffer.from(what.binary));
    this.#lines.push(line);
  }

  /** What comes from here on is the clean-up of the case. */
  end() {
    this.#ended = true;
  }

  save(name) {
    mkdirSync(FOLDER, { recursive: true });
    writeFileSync(join(FOLDER, `${name}.jsonl`), this.#lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  }

  #replaceText(text) {
    return text
      .replace(NUMBERED, (whole, key, value) => {
        // `to` may also be a word.
        if (PLAYER_KEYS.has(key) && value.startsWith('"')) return whole;
        const kind = PLAYER_KEYS.has(key) ? "player_id" : key.replace("_prev", "");
        return `"${key}":"${this.#placeholder(kind, value)}"`;
      })
      .replace(TIMES, (_, key) => `"${key}":"<${key}>"`)
      .replace(GUESTS, (_, guest) => `"${this.#placeholder("user_id", guest)}"`);
  }

  #placeholder(kind, value) {
    const key = `${kind} ${value}`;
    if (!this.#placeholders.has(key)) {
      this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1);
      this.#placeholders.set(key, `<${kind}-${this.#counts.get(kind)}>`);
    }
    return this.#placeholders.get(key);
  }

  /** Hexadecimal; the ids of players in a game's state are placeholders, the rest is as it was. */
  #replaceBinary(dir, message) {
    const lengths = { ">0": 4, "<0": 3, "<1": 4, "<2": 2 }[dir + message[0]];
    const head = 1 + lengths + message.subarray(1, 1 + lengths).reduce((sum, length) => sum + length, 0);
    let hex = message.subarray(0, head + 8).toString("hex");
    let at = head + 8;
    for (let left = message.readUInt32BE(head); left > 0; left--, at += 12) {
      const player = this.#placeholder("player_id", String(message.readUInt32BE(at)));
      hex += player + message.subarray(at + 4, at + 12).toString("hex");
    }
    return hex + message.subarray(at).toString("hex");
  }
}
