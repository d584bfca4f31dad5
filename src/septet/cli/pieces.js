// Shows how the piece came about that is pointed at; the arrow keys go from piece to piece.
const made = (tag, text = "", css = "") => {
  const element = document.createElement(tag);
  element.textContent = text;
  if (css) element.className = css;
  return element;
};
const share = (p) => (p === null || p === undefined ? "?" : p >= 0.9995 ? "1" : p < 0.001 && p > 0 ? "<0.001" : p.toFixed(3));

function detail(e) {
  const parts = [made("h3", e.piece)];
  const p = e.p === null ? "" : ` · probability ${share(e.p)}`;
  parts.push(made("p", `number ${e.number} · byte ${e.at}${p} · ${e.ms} ms${e.drafted ? " · drafted" : ""}`, "soft"));
  if (e.candidates.length) {
    const table = made("table"), head = table.createTHead().insertRow(), body = table.createTBody();
    for (const name of ["candidate", "fused", ...e.asked]) head.append(made("th", name));
    for (const [text, fused, owns, chosen] of e.candidates) {
      const row = body.insertRow();
      if (chosen) row.className = "chosen";
      for (const cell of [text, share(fused), ...owns.map(share)]) row.append(made("td", cell));
      row.cells[0].title = text;
    }
    parts.push(table);
  }
  const list = made("dl");
  const say = (name, text) => list.append(made("dt", name), made("dd", text));
  say("support", e.support.map(([name, s]) => `${name} ${Math.round(100 * s)}%`).join(" · ") || "of nobody");
  if (e.candidates.length) say("first choice of", e.agreed.join(", ") || "no member");
  for (const [name, n, ms] of e.fed) say(name, `${n} token${n === 1 ? "" : "s"} fed, ${ms} ms in forwards`);
  parts.push(list);
  return parts;
}

for (const section of document.querySelectorAll(".answer")) {
  const events = JSON.parse(section.querySelector("script").textContent);
  const panel = section.querySelector(".detail");
  let now = -1;
  const choose = (i) => {
    if (i === now || !events[i]) return;
    for (const old of section.querySelectorAll(".on")) old.classList.remove("on");
    for (const part of section.querySelectorAll(`[data-i="${i}"]`)) part.classList.add("on");
    panel.replaceChildren(...detail(events[i]));
    now = i;
  };
  section.addEventListener("pointerover", (event) => {
    const part = event.target.closest("[data-i]");
    if (part) choose(Number(part.dataset.i));
  });
  section.querySelector(".text").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    choose(Math.min(Math.max(now + step, 0), events.length - 1));
  });
  choose(0);
}
