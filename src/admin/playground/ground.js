// Draws what players stand on: a grid in world units, the cells of the own view, the edge of the field, and a map of everybody.

const MINIMAP_SIDE = 150;
const MINIMAP_PART_MAX = 0.28;
const MINIMAP_MARGIN = 12;
/** Each ring lies upon the ones around it, so the view's cell is the darkest. */
const RING_ALPHA = 0.045;

/** Lines at steps of 1, 2 or 5 × 10ⁿ that are at least 44 pixels apart. */
export function drawGrid(context, camera, { width, height }, colors) {
  const least = 44 / camera.scale;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= least);
  const lines = (from, to) => {
    const values = [];
    for (let index = Math.ceil(from / step); index * step <= to; index++) values.push(index * step);
    return values;
  };
  const label = (value) => String(Number(value.toPrecision(6)));
  const { minX, minY, maxX, maxY } = camera.seen;
  context.lineWidth = 1;
  context.font = "10px ui-monospace, Menlo, Consolas, monospace";
  context.textBaseline = "top";
  context.textAlign = "left";
  for (const x of lines(minX, maxX)) {
    const at = Math.round(camera.place({ x, y: 0 })[0]) + 0.5;
    line(context, x === 0 ? colors.axis : colors.grid, at, 0, at, height);
    context.fillStyle = colors.muted;
    if (at > 44) context.fillText(label(x), at + 4, 5);
  }
  for (const y of lines(minY, maxY)) {
    const at = Math.round(camera.place({ x: 0, y })[1]) + 0.5;
    line(context, y === 0 ? colors.axis : colors.grid, 0, at, width, at);
    context.fillStyle = colors.muted;
    if (at > 24) context.fillText(label(y), 6, at + 4);
  }
}

/** The edge of the field, and a shade on what is beyond it. */
export function drawField(context, camera, { width, height }, colors) {
  if (!camera.field) return;
  const [left, top, wide, high] = boxOf(camera, camera.field);
  if (camera.isFollowing) {
    context.fillStyle = colors.beyond;
    context.beginPath();
    context.rect(0, 0, width, height);
    context.rect(left, top, wide, high);
    context.fill("evenodd");
  }
  context.lineWidth = camera.isFollowing ? 1.5 : 1;
  context.strokeStyle = colors.muted;
  context.strokeRect(Math.round(left) + 0.5, Math.round(top) + 0.5, Math.round(wide), Math.round(high));
}

/** The cells of the own view, its rings and its cell. */
export function drawSight(context, camera, sight, colors) {
  if (!sight.cell) return;
  context.fillStyle = colors.accent;
  context.strokeStyle = colors.accent;
  context.lineWidth = 1;
  context.globalAlpha = RING_ALPHA;
  for (let radius = sight.radius; radius >= 0; radius--) context.fillRect(...boxOf(camera, sight.areaWithin(radius)));
  context.globalAlpha = 0.16;
  const area = sight.areaWithin(sight.radius);
  const [left, top, wide, high] = boxOf(camera, area);
  for (const x of sight.edges.x) {
    const at = Math.round(camera.place({ x, y: 0 })[0]) + 0.5;
    line(context, colors.accent, at, top, at, top + high);
  }
  for (const y of sight.edges.y) {
    const at = Math.round(camera.place({ x: 0, y })[1]) + 0.5;
    line(context, colors.accent, left, at, left + wide, at);
  }
  context.globalAlpha = 0.6;
  context.strokeRect(...boxOf(camera, sight.areaWithin(0)));
  context.globalAlpha = 1;
}

/** Everybody in the game as dots in a corner. `places`: [{ id, x, y }]; `own`: where the own player is, if it is anywhere. */
export function drawMinimap(context, camera, { width, height }, places, own, colors) {
  const { field } = camera;
  if (!field || places.length === 0) return;
  const [fieldWidth, fieldHeight] = [field.maxX - field.minX, field.maxY - field.minY];
  const side = Math.min(MINIMAP_SIDE, MINIMAP_PART_MAX * Math.min(width, height));
  const scale = side / Math.max(fieldWidth, fieldHeight);
  const [wide, high] = [fieldWidth * scale, fieldHeight * scale];
  const [left, top] = [width - MINIMAP_MARGIN - wide, MINIMAP_MARGIN + 10];
  const at = ({ x, y }) => [left + (x - field.minX) * scale, top + (y - field.minY) * scale];
  context.save();
  context.fillStyle = colors.surface;
  context.strokeStyle = colors.muted;
  context.lineWidth = 1;
  context.globalAlpha = 0.85;
  context.fillRect(left, top, wide, high);
  context.globalAlpha = 1;
  context.strokeRect(left, top, wide, high);
  context.beginPath();
  context.rect(left, top, wide, high);
  context.clip();
  context.fillStyle = colors.muted;
  for (const place of places) dot(context, at(place), 1.5);
  const { minX, minY, maxX, maxY } = camera.seen;
  const [seenLeft, seenTop] = at({ x: minX, y: minY });
  context.strokeStyle = colors.accent;
  context.strokeRect(seenLeft, seenTop, (maxX - minX) * scale, (maxY - minY) * scale);
  context.fillStyle = colors.accent;
  if (own) dot(context, at(own), 3);
  context.restore();
}

export function line(context, color, fromX, fromY, toX, toY) {
  context.strokeStyle = color;
  context.beginPath();
  context.moveTo(fromX, fromY);
  context.lineTo(toX, toY);
  context.stroke();
}

function dot(context, [x, y], radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

function boxOf(camera, { minX, minY, maxX, maxY }) {
  const [left, top] = camera.place({ x: minX, y: minY });
  const [right, bottom] = camera.place({ x: maxX, y: maxY });
  return [left, top, right - left, bottom - top];
}
