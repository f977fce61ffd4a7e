// node sign.mjs corelay.key ann
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";

const [keyFile, user] = process.argv.slice(2);
const key = readFileSync(keyFile, "utf8").trim(); // trim() takes a byte-order mark away, too
const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const exp = Math.floor(Date.now() / 1000) + 15 * 60;
const signed = part({ alg: "HS256", typ: "JWT" }) + "." + part({ sub: user, exp, topics: ["game:*", "room:*"] });
console.log(signed + "." + createHmac("sha256", key).update(signed).digest("base64url"));
