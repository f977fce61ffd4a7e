// Tokens as the relay under test takes them: JWTs, HS256.
import { createHmac } from "node:crypto";

/** Content of the key file. It protects nothing. */
export const SECRET = "the secret of corelay's tests with the Phoenix clients";

/** The end of tokens that are to be the same in every run, so that transcripts can hold them: 2100-01-01. */
export const FAR_FUTURE_S = 4_102_444_800;

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A token with these claims; `exp` in seconds. */
export function token({ sub, topics = [], exp = FAR_FUTURE_S, ...claims }, secret = SECRET) {
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub, exp, topics, ...claims })}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}
