// Moves by the arrow keys and draws everybody smoothly. In a browser: <canvas></canvas><script type="module" src="smooth-game.mjs"></script>
import { NativeGame } from "./corelay.mjs";
import { Pacing } from "./pacing.mjs";
import { Prediction } from "./prediction.mjs";
import { Timeline } from "./timeline.mjs";

const [others, pacing, now, keys] = [new Timeline({ snapDistance: 50 }), new Pacing(), () => performance.now(), new Set()];
const own = new Prediction({ send: (place) => game.step(place) });
const canvas = document.querySelector("canvas").getContext("2d");
let [me, drawnAt] = [0, now()];
const game = new NativeGame({ relay: "ws://127.0.0.1:4000", game: "first-game", name: "Ann" }, {
  joined: ({ playerId, tickHz }) => ((me = playerId), others.start(tickHz), pacing.start(tickHz, now()), own.start(own.place)),
  frame: (frame) => others.apply(frame, now()),
  ack: (ack) => (own.ack(ack, now()), pacing.ack(ack)),
  correction: (correction) => own.correct(correction, now()),
});
addEventListener("keydown", ({ key }) => keys.add(key));
addEventListener("keyup", ({ key }) => keys.delete(key) && keys.size === 0 && pacing.sent(own.stop(), now())); // a stop is sent at once
setInterval(() => pacing.isDue(now()) && pacing.sent(own.flush(), now()), 4); // the rest just in time for the next tick
requestAnimationFrame(function draw() {
  const step = (now() - drawnAt) / 20; // 50 units a second
  drawnAt = now();
  if (keys.size > 0) own.input({ x: step * (keys.has("ArrowRight") - keys.has("ArrowLeft")), y: step * (keys.has("ArrowDown") - keys.has("ArrowUp")) });
  canvas.clearRect(0, 0, 300, 150);
  for (const { id, x, y } of [...others.draw(now()).filter(({ id }) => id !== me), { id: me, ...own.drawnAt(now()) }]) canvas.fillText(id, 150 + x, 75 + y);
  requestAnimationFrame(draw);
});
