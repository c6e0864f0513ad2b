// Shows the text of the point nearest to a pointer or finger.
(() => {
  const tip = document.getElementById("tip");
  let lit = null;
  const light = point => { lit?.classList.remove("lit"); lit = point; lit?.classList.add("lit"); };
  const hide = () => { tip.hidden = true; light(null); };
  const center = point => { const b = point.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; };
  function show(svg, event) {
    let best = null, least = 36;
    for (const point of svg.querySelectorAll(".pt")) {
      const [x, y] = center(point), distance = Math.hypot(x - event.clientX, y - event.clientY);
      if (distance < least) { least = distance; best = point; }
    }
    if (!best) return hide();
    light(best);
    tip.textContent = best.getAttribute("aria-label");
    tip.hidden = false;
    const [x, y] = center(best), above = y - tip.offsetHeight - 16;
    const left = Math.min(x - tip.offsetWidth / 2, document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = Math.max(8, left) + scrollX + "px";
    tip.style.top = (above < 4 ? y + 18 : above) + scrollY + "px";
  }
  for (const title of document.querySelectorAll(".pt title")) {
    title.parentNode.setAttribute("aria-label", title.textContent);
    title.remove();
  }
  for (const svg of document.querySelectorAll("svg.plot")) {
    svg.addEventListener("pointermove", event => show(svg, event));
    svg.addEventListener("pointerdown", event => show(svg, event));
    svg.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") hide(); });
  }
  document.addEventListener("pointerdown", event => { if (!event.target.closest("svg.plot")) hide(); });
})();
