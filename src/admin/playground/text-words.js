// What a document's states and refusals mean.

import { durationText } from "./chat-words.js";

const REFUSALS = {
  not_found: "there is no such document, and on this relay none begins by being opened: `PUT /docs/{id}` of its admin pages makes one",
  unauthorized:
    "no token grants it. Mint one with `corelay token --sub you --topics 'game:*,room:*,doc:*' --jwt-key-file …` and paste it under “Relay and token”",
  read_only: "the token is for reading only",
  rate_limited: "too much within a short time",
  overload: "too much waits in this document",
  storage_full: "the relay's disk is full",
  unavailable: "the relay's disk fails",
  closed: "the relay has closed the document",
  "unmatched topic": "a document's name has 1 to 64 of the characters A–Z a–z 0–9 _ - and dot",
  "too many channels joined": "this connection has joined too many topics",
};

/** One clause. What the relay says in words stays as it is. */
export function refusalText(reason) {
  return REFUSALS[reason] ?? String(reason ?? "the relay gave no reason");
}

/** The line that is shown while not all is well; "" when it is. `text` is a SharedText. */
export function stateText(text, now) {
  const { state, refusal, retryAt, limitedUntil, drainUntil, document } = text;
  const again = retryAt > now ? `Trying again in ${secondsText(retryAt - now)}.` : "Trying again…";
  if (state === "waiting") return `${refusal ? `Not let in yet: ${refusalText(refusal)}` : "Connection lost"}. ${again}`;
  if (state === "joining") return "Loading…";
  if (state === "catching_up") return "Catching up with what was missed…";
  if (limitedUntil > now) return `Too much within a short time; the rest is sent in ${secondsText(limitedUntil - now)}.`;
  if (drainUntil > now) return `The relay is about to restart: the connection is closed within ${secondsText(drainUntil - now)}, and comes back.`;
  return document.isReadOnly ? "You may read this document, not edit it: your token says so." : "";
}

/** "version 41 · saved", "version 41 · 3 edits unsaved" */
export function versionText({ version, pendingEdits, isReadOnly }) {
  if (version === null) return "";
  const saved = pendingEdits === 0 ? "saved" : `${pendingEdits} ${pendingEdits === 1 ? "edit" : "edits"} unsaved`;
  return `version ${version}${isReadOnly ? "" : ` · ${saved}`}`;
}

function secondsText(ms) {
  return durationText(Math.max(ms, 1));
}
