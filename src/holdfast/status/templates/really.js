"use strict";
// The same as `notices/genuine.py` and `seal.py`, in the reader's own browser.
const { known, verdicts } = JSON.parse(document.getElementById("known").textContent);
const chinese = document.documentElement.lang === "zh-CN";
const at = id => document.getElementById(id);

const LINES = 40, CODES = 5, CHARS = 10000;
const CODE = /\bHF-?([0-9A-Z]{4})-?([0-9A-Z]{4})\b/gi;
const LINK = /\b(?:https?:\/\/|www\.)[^\s<>"')),。]+/gi;
const EMAIL = /\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b/g;
const PHONE = /(?<![\w:\/.-])\+?\d[\d\s()\/-]{5,}\d(?![\w-])/g;
const digits = text => text.replace(/\D/g, "");
const host = link => { try { return new URL(link.includes("://") ? link : "http://" + link).hostname; } catch { return ""; } };

async function digest(text) {
  const plain = text.normalize("NFKC").toLowerCase().replace(/\s+/g, "");
  const sum = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(plain));
  return Array.from(new Uint8Array(sum), byte => byte.toString(16).padStart(2, "0")).join("").slice(0, 32);
}

function foreign(text) {
  const { domains, emails, phones } = known.official;
  const ours = new Set(emails.map(email => email.toLowerCase())), numbers = new Set(phones.map(digits));
  const rest = text.replace(LINK, " ").replace(EMAIL, " ").replace(CODE, " ");
  return [
    ...(text.match(LINK) || []).filter(link => !domains.some(d => host(link) === d || host(link).endsWith("." + d))),
    ...(text.match(EMAIL) || []).filter(email => !ours.has(email.toLowerCase())),
    ...(rest.match(PHONE) || []).filter(phone => !numbers.has(digits(phone)) && !/^20\d\d-\d\d-\d\d/.test(phone)),
  ];
}

async function hasWords(text, code) {
  const lines = text.split(/[\r\n]+/).map(line => line.trim()).filter(line => line);
  const plain = code.replaceAll("-", "");
  const ends = lines.flatMap((line, i) => line.toUpperCase().replaceAll("-", "").includes(plain) ? [i + 1] : []);
  for (const end of ends.slice(0, CODES))
    for (let start = Math.max(0, end - LINES); start < end; start++)
      if (known.notices[code].includes(await digest(lines.slice(start, end).join("\n")))) return true;
  return false;
}

async function check(raw) {
  const text = raw.slice(0, CHARS).normalize("NFKC");
  const strangers = foreign(text);
  if (strangers.length) return ["foreign", strangers];
  const codes = [...text.toUpperCase().matchAll(CODE)].slice(0, CODES).map(found => `HF-${found[1]}-${found[2]}`);
  const ours = codes.filter(code => Object.hasOwn(known.notices, code));
  if (ours.length) {
    for (const code of ours) if (!await hasWords(text, code)) return ["altered", ours];
    return ["ours", ours];
  }
  if (codes.length) return ["no_code", codes];
  const named = [LINK, EMAIL, PHONE].flatMap(kind => text.match(kind) || []);
  const length = text.replace(/\s/g, "").length;
  if (named.length && named.join("").length >= length - 2) return ["contact", named];
  return ["unknown", []];
}

at("look").addEventListener("click", async () => {
  const [verdict, about] = await check(at("text").value);
  at("verdict").className = verdict === "ours" || verdict === "contact" ? "ok" : "no";
  at("verdict").dataset.verdict = verdict;
  at("verdict").textContent = verdicts[verdict][chinese ? "zh" : "en"];
  at("about").textContent = about.join(" · ");
});

const said = at("said"), key = "{{ key }}".slice(5);
const bytes = text => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), c => c.charCodeAt(0));
at("file").addEventListener("change", async event => {
  const say = (kind, more) => { said.className = kind === "good" ? "ok" : "no"; said.textContent = said.dataset[kind] + (more ? " " + more : ""); };
  const page = new Uint8Array(await event.target.files[0].arrayBuffer());
  const text = new TextDecoder("latin1").decode(page);
  const found = /\n<!-- holdfast-status\/1 path=([!-~]+) valid-until=([0-9TZ:-]+) signature=([A-Za-z0-9_-]+) -->\n?$/.exec(text);
  if (!found) return say("none");
  const head = new TextEncoder().encode("holdfast-status/1\n" + found[1] + "\n" + found[2] + "\n");
  const signed = new Uint8Array(head.length + found.index);
  signed.set(head); signed.set(page.subarray(0, found.index), head.length);
  try {
    const public_ = await crypto.subtle.importKey("raw", bytes(key), "Ed25519", false, ["verify"]);
    if (!await crypto.subtle.verify("Ed25519", public_, bytes(found[3]), signed)) return say("bad");
  } catch { return say("cannot"); }
  say(new Date(found[2]) < new Date() ? "old" : "good", found[2]);
});
