// The page where there is TLS: in the relay, or in a proxy before it; and what it says of certificates that nobody trusts.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join as pathOf, resolve } from "node:path";
import tls from "node:tls";

import { BINARY, Relay, becomes } from "./harness.mjs";

/** A certificate for localhost; `relay`: one with `listen_tls`; `proxy`: TLS before the admin pages and the relay that it is given. */
async function withCertificate(run) {
  const folder = mkdtempSync(pathOf(tmpdir(), "corelay-playground-tls-"));
  const running = [];
  try {
    const lines = execFileSync(resolve(BINARY), ["cert", "--self-signed", "localhost"], { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    const [cert, key] = ["crt", "key"].map((kind) => readFileSync(pathOf(folder, `localhost.${kind}`)));
    const configuration = pathOf(folder, "tls.toml");
    writeFileSync(configuration, lines.replace(/listen_tls = .*/, 'listen_tls = "127.0.0.1:0"'));
    const relay = async () => {
      running.push(await Relay.start({ CORELAY_CONFIG: configuration }, { cwd: folder }));
      return running.at(-1);
    };
    const proxy = async (to) => {
      const server = tls.createServer({ cert, key, ALPNProtocols: ["http/1.1"] }, (near) => {
        near.on("error", () => {});
        near.once("data", (head) => {
          const isForPlayers = /^GET \/(play|socket)\//.test(head.toString("latin1"));
          const far = net.connect(isForPlayers ? to.port : Number(new URL(to.url).port), "127.0.0.1");
          far.on("error", () => near.destroy());
          far.write(head);
          near.pipe(far).pipe(near);
        });
      });
      await new Promise((done) => server.listen(0, "127.0.0.1", done));
      running.push({ stop: () => server.close() });
      return `https://localhost:${server.address().port}`;
    };
    await run({ relay, proxy });
  } finally {
    for (const each of running) await each.stop();
    rmSync(folder, { recursive: true });
  }
}

const press = (page) => page.getByRole("button", { name: "Join", exact: true }).click();
const joins = async (page) => {
  await press(page);
  await becomes(page, "joined", () => page.evaluate(() => playground.state()), (state) => state === "joined");
};
const titled = (page, title) => becomes(page, title, () => page.locator("#trouble-title").innerText(), (text) => text === title);
const useRelay = async (page, address) => {
  if (!(await page.locator("#relay").isVisible())) await page.getByText("Relay and token").click();
  await page.fill("#relay", address);
};
const UNTRUSTED = "This browser does not trust the relay's certificate";

export const testsOfTls = {
  async "where a page reaches its relay follows from how it came and what the relay is"({ open }) {
    const page = await open({ name: "Ann" });
    const development = { relay: "127.0.0.1:4000", relay_tls: null, tls_names: [], development: true };
    const trying = { ...development, relay_tls: "127.0.0.1:4443", tls_names: ["localhost"] };
    const live = { ...development, relay_tls: "0.0.0.0:443", tls_names: ["play.example.com", "*.example.org"], development: false };
    const cases = [
      [development, "http://127.0.0.1:4001", "ws://127.0.0.1:4000"],
      [development, "http://localhost:4001", "ws://localhost:4000"],
      [{ ...development, relay: "192.168.1.5:4000" }, "http://localhost:4001", "ws://192.168.1.5:4000"],
      // A proxy has TLS.
      [development, "https://admin.example.com", "wss://admin.example.com"],
      [trying, "http://localhost:4001", "ws://localhost:4000"],
      [trying, "https://localhost:8443", "wss://localhost:4443"],
      [{ ...trying, relay_tls: "0.0.0.0:4443" }, "http://192.168.1.5:4001", "wss://192.168.1.5:4443"],
      [{ ...trying, relay: "0.0.0.0:4000" }, "http://192.168.1.5:4001", "ws://192.168.1.5:4000"],
      // Through a tunnel of ssh, or from a host of its own: players come by the certificate's name.
      [live, "http://localhost:4001", "wss://play.example.com:443"],
      [live, "https://admin.example.com", "wss://play.example.com:443"],
      [live, "https://play.example.com:8443", "wss://play.example.com:443"],
      [live, "http://eu.example.org:4001", "wss://eu.example.org:443"],
      [{ ...live, tls_names: ["*.example.org"] }, "http://localhost:4001", "wss://localhost:443"],
      [{ ...live, relay_tls: "[::]:443", tls_names: [] }, "http://[::1]:4001", "wss://[::1]:443"],
    ];
    const found = await page.evaluate(async (all) => {
      const { relayUrl, ownListener } = await import("/playground/relay.js");
      return all.map(([about, from, url]) => [relayUrl(about, new URL(from)), ownListener(url, about, new URL(from))]);
    }, cases);
    const kinds = cases.map(([about, , url]) => (about.relay_tls === null && url.startsWith("wss") ? "proxy" : url.startsWith("wss") ? "secure" : "plain"));
    assert.deepEqual(found, cases.map(([, , url], index) => [url, kinds[index]]));
  },

  async "a page that came by https joins by wss, where the relay has TLS"({ open }) {
    await withCertificate(async ({ relay, proxy }) => {
      const running = await relay();
      const origin = await proxy(running);
      for (const dialect of ["native", "phoenix"]) {
        const page = await open({ name: "Ann", origin, trusts: true, expectFailures: true });
        await page.locator(`label:has(input[value=${dialect}])`).click();
        assert.equal(await page.inputValue("#relay"), `wss://localhost:${running.tlsPort}`);
        await joins(page);
        await page.getByRole("button", { name: "Code" }).click();
        assert.match(await page.locator("#code-text").inputValue(), /NODE_EXTRA_CA_CERTS/);
      }
    });
  },

  async "a page that came by https joins through the proxy, where the relay has no TLS"({ relay, open }) {
    await withCertificate(async ({ proxy }) => {
      const origin = await proxy(relay);
      const page = await open({ name: "Ann", origin, trusts: true, expectFailures: true });
      assert.equal(await page.inputValue("#relay"), origin.replace("https", "wss"));
      await joins(page);
    });
  },

  async "ws:// from a page that came by https is said to be impossible, with what is not"({ relay, open }) {
    await withCertificate(async ({ relay: startRelay, proxy }) => {
      const running = await startRelay();
      for (const [origin, remedy] of [[await proxy(running), `Write wss://localhost:${running.tlsPort}`], [await proxy(relay), "listen_tls"]]) {
        const page = await open({ name: "Ann", origin, trusts: true, expectFailures: true });
        // An address for documentation, where nobody is.
        await useRelay(page, "ws://192.0.2.1:4000");
        await press(page);
        await titled(page, "A page that came by https may not use ws://");
        assert.match(await page.locator("#trouble-remedy").innerText(), new RegExp(remedy));
        await page.getByText("Chat", { exact: true }).click();
        await page.getByRole("button", { name: "Join room" }).click();
        await becomes(page, "the room's note", () => page.locator("#chat-note").innerText(), (text) => /may not use ws:/.test(text));
      }
    });
  },

  async "a certificate that the browser does not trust is named, with the page to open"({ relay: other, open }) {
    await withCertificate(async ({ relay }) => {
      const running = await relay();
      const address = `wss://localhost:${running.tlsPort}`;
      // Once on the relay's own page, and once on another relay's, which may not ask it.
      for (const origin of [running.url, other.url]) {
        const page = await open({ name: "Ann", origin, relay: address, expectFailures: true });
        await press(page);
        await titled(page, UNTRUSTED);
        if (origin === running.url) assert.match(await (await page.request.get(`${origin}/metrics`)).text(), /^corelay_tls_failures_total\{shard="0"\} [1-9]/m);
        const link = page.locator("#trouble-link");
        assert.equal(await link.getAttribute("href"), `https://localhost:${running.tlsPort}/`);
        await page.getByText("Chat", { exact: true }).click();
        await page.getByRole("button", { name: "Join room" }).click();
        await becomes(page, "the room's note", () => page.locator("#chat-note").innerText(), (text) => text.includes(UNTRUSTED));
      }
      const trusting = await open({ name: "Ben", origin: running.url, relay: address, trusts: true });
      await joins(trusting);
      assert.equal(await trusting.locator("#trouble-link").isVisible(), false);
    });
  },

  async "the wrong scheme for a port of the relay is named with the right one"({ open }) {
    await withCertificate(async ({ relay }) => {
      const running = await relay();
      const page = await open({ name: "Ann", origin: running.url, expectFailures: true });
      assert.equal(await page.inputValue("#relay"), `ws://127.0.0.1:${running.port}`, "in development mode, from here, without TLS");
      for (const [written, title, right] of [
        [`ws://localhost:${running.tlsPort}`, "That port speaks TLS", `wss://localhost:${running.tlsPort}`],
        [`wss://localhost:${running.port}`, "That port speaks no TLS", `ws://localhost:${running.port}`],
      ]) {
        await useRelay(page, written);
        await press(page);
        await titled(page, title);
        assert.match(await page.locator("#trouble-remedy").innerText(), new RegExp(`Write ${right} `));
      }
      // Nobody is there: it may be the certificate, too.
      await useRelay(page, "wss://127.0.0.1:1");
      await press(page);
      await titled(page, "Nothing answers there");
      assert.equal(await page.locator("#trouble-link").getAttribute("href"), "https://127.0.0.1:1/");
    });
  },
};
