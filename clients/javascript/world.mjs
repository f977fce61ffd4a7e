// What the relay has told of a game so far: where everybody is, the objects, and the keys of each player. Feeds on decoded records,
// and names players by their ids also where a layout names them by their seats.

import { bareId, seatOf } from "./records.mjs";

/** An Overview names everybody once a round; who is in none of so many whole rounds is gone. */
const OVERVIEW_ROUNDS = 2;

export class World {
  /** Player id → { id, x, y, z?, pose? }. */
  positions = new Map();
  /** Object id → { id, type, flags, x, y, z? }. */
  objects = new Map();
  /** Player id → Map of key → Uint8Array; they outlive a Keyframe that does not name the player. */
  keys = new Map();
  /** Seat → { id, seat, x, y }: everybody, coarsely. */
  overview = new Map();

  #epoch = null;
  #ownId = 0;
  #isCrowd = false;
  /** Seat → player id, as far as it is known. */
  #ids = new Map();
  /** Seat → the id under which its position is told, where positions name seats. */
  #shown = new Map();
  /** Seats that are shown without knowing for sure whose they are. */
  #unsettled = new Set();
  /** Seat → the Overview's round that named it last. */
  #rounds = new Map();
  #round = 0;

  /** A connection has its Welcome. What is known of the same game stays, until a Keyframe says otherwise. */
  welcome({ epoch, playerId }) {
    if (epoch !== this.#epoch) {
      for (const map of [this.positions, this.objects, this.keys, this.overview, this.#ids, this.#shown, this.#rounds]) map.clear();
      this.#unsettled.clear();
    }
    this.#epoch = epoch;
    this.#ownId = playerId;
    this.learn([playerId]);
  }

  /** The id of who has this seat, or what stands for it. */
  idOf(seat) {
    return this.#ids.get(seat) ?? bareId(seat);
  }

  /** What a Who should ask for, at most `most`: seats whose player is not known; each call begins behind the last one's. */
  unsettled(most) {
    const seats = [...this.#unsettled].slice(0, most);
    for (const seat of seats) this.#unsettled.delete(seat), this.#unsettled.add(seat);
    return seats.map(bareId);
  }

  /** Takes a Keyframe or Delta; returns it with ids. What is gone is to be applied before what is there. */
  frame(frame, { number }) {
    const isSeats = number === "u16";
    const gonePlayers = frame.gonePlayers.map((gone) => (isSeats ? this.#vacate(gone) : gone));
    for (const id of gonePlayers) this.positions.delete(id), this.keys.delete(id);
    if (frame.whole) this.#forgetAll();
    const positions = isSeats ? frame.positions.map((position) => this.#seated(position, frame.whole)) : frame.positions;
    for (const position of positions) this.positions.set(position.id, position);
    for (const id of frame.goneObjects) this.objects.delete(id);
    for (const object of frame.objects) this.objects.set(object.id, object);
    return { ...frame, positions, gonePlayers, renamed: [] };
  }

  /** Takes a States record. */
  states({ whole, states }) {
    if (whole) this.keys.clear();
    for (const { id, key, value } of states) {
      if (this.#isPast(id)) continue;
      const keys = this.keys.get(id) ?? new Map();
      if (value.length > 0) keys.set(key, value);
      else keys.delete(key);
      if (keys.size > 0) this.keys.set(id, keys);
      else this.keys.delete(id);
    }
    return this.learn(states.map(({ id }) => id));
  }

  /** Takes a Roster that is no answer. */
  roster({ whole, crowd, joined, left }) {
    // A crowd is not listed: what is known goes on until a Who says otherwise.
    if (whole && crowd === null) this.#ids.clear();
    this.#isCrowd = crowd !== null;
    for (const { id } of left) {
      this.keys.delete(id);
      if (this.#ids.get(seatOf(id)) === id) this.#ids.delete(seatOf(id));
    }
    return this.learn(joined.keys());
  }

  /** Takes an Overview; returns it with ids. */
  overviewed({ begins, tick, players }) {
    if (begins) this.#beginRound();
    const named = players.map(({ seat, x, y }) => {
      this.#rounds.set(seat, this.#round);
      const player = { id: this.idOf(seat), seat, x, y };
      this.overview.set(seat, player);
      return player;
    });
    return { begins, tick, players: named };
  }

  /** These players are in the game: their seats are theirs. Returns which positions have been told under another id: [{ from, to }]. */
  learn(ids) {
    const renamed = [];
    for (const id of ids) {
      const seat = seatOf(id);
      if (this.#isPast(id)) continue;
      const before = this.#ids.get(seat);
      if (before !== undefined && before !== id) this.keys.delete(before);
      this.#ids.set(seat, id);
      // A settled seat goes on under its old id until the frame that says that the old player is gone.
      if (!this.#unsettled.delete(seat)) continue;
      const from = this.#shown.get(seat);
      if (from === id) continue;
      this.positions.set(id, { ...this.positions.get(from), id });
      this.positions.delete(from);
      this.#shown.set(seat, id);
      renamed.push({ from, to: id });
    }
    return renamed;
  }

  /** The ids of a seat only grow, so the seat of this player is another one's. */
  #isPast(id) {
    return this.#ids.get(seatOf(id)) > id;
  }

  /** Returns the id under which the position was told. */
  #vacate(seat) {
    const id = this.#shown.get(seat) ?? this.idOf(seat);
    this.#shown.delete(seat);
    this.#unsettled.delete(seat);
    // In a crowd nobody says who has the seat next.
    if (this.#isCrowd && this.#ids.get(seat) === id && id !== this.#ownId) this.#ids.delete(seat);
    return id;
  }

  #forgetAll() {
    this.positions.clear();
    this.objects.clear();
    this.#shown.clear();
    this.#unsettled.clear();
  }

  #seated({ seat, ...place }, whole) {
    const id = this.#shown.get(seat) ?? this.idOf(seat);
    this.#shown.set(seat, id);
    // Before a Keyframe something was missed, and in a crowd that may be another player in the seat.
    if (!this.#ids.has(seat) || (whole && this.#isCrowd && id !== this.#ownId)) this.#unsettled.add(seat);
    return { id, ...place };
  }

  #beginRound() {
    this.#round += 1;
    for (const [seat, round] of this.#rounds) {
      if (round >= this.#round - OVERVIEW_ROUNDS) continue;
      this.#rounds.delete(seat);
      this.overview.delete(seat);
    }
  }
}
