// The first byte of a pose, which the page takes for the direction that a player looks in: 256ths of a turn, from the x axis towards y.

const RADIANS = Math.PI / 128;

/** The pose of a player that goes this way; the other bytes are 0. */
export function poseTowards(dx, dy, poseBytes) {
  const pose = new Uint8Array(poseBytes);
  pose[0] = Math.round(Math.atan2(dy, dx) / RADIANS);
  return pose;
}

/** In radians; null: the pose says none. */
export function yawOf(pose) {
  return pose?.length > 0 ? pose[0] * RADIANS : null;
}

/** The short way around; what the other bytes mean is not known here. */
export function interpolatePose(from, to, fraction) {
  const pose = Uint8Array.from(fraction < 0.5 ? from : to);
  pose[0] = Math.round(from[0] + fraction * (((to[0] - from[0] + 128) & 255) - 128));
  return pose;
}
