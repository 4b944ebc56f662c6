// The worked examples of docs/protocol.md: blocks marked `vector`, each line a name, two spaces and a value;
// a line that begins with a space goes on with the value before it.

import { readFileSync } from "node:fs";

const text = readFileSync(new URL("../../../docs/protocol.md", import.meta.url), "utf8");

/** The vector block of that name, as an object from names to strings. */
export function vector(name) {
  const block = text.match(new RegExp("^```vector " + name + "\\n([^]*?)\\n```$", "m"));
  if (!block) throw new Error(`docs/protocol.md has no vector ${name}`);
  return Object.fromEntries(block[1].replaceAll("\n  ", "").split("\n").map((line) => {
    const at = line.indexOf("  ");
    return [line.slice(0, at), line.slice(at + 2)];
  }));
}
