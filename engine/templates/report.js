"use strict";
for (const control of document.querySelectorAll(".controls")) control.hidden = false;

for (const box of document.querySelectorAll("[data-toggle]"))
  box.addEventListener("change", () => document.body.classList.toggle(box.dataset.toggle, !box.checked));

for (const slider of document.querySelectorAll(".fade input"))
  slider.addEventListener("input", () => slider.closest("figure").style.setProperty("--fade", slider.value));

// Undefined values stay at the end whichever way the column runs.
const compare = (a, b, sign) => {
  if (a === "" || b === "") return (a === "") - (b === "");
  const difference = Number(a) - Number(b);
  return sign * (Number.isNaN(difference) ? a.localeCompare(b, "en", { numeric: true }) : difference);
};

for (const button of document.querySelectorAll(".regions thead button"))
  button.addEventListener("click", () => {
    const heading = button.parentElement;
    const column = heading.cellIndex;
    const sign = heading.ariaSort === "ascending" ? -1 : 1;
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const body = heading.closest("table").tBodies[0];
    const value = (row) => row.cells[column].dataset.value;
    body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b), sign)));
  });

for (const row of document.querySelectorAll("[data-region]")) {
  const light = (on) => {
    for (const path of document.querySelectorAll(`path.r${row.dataset.region}`)) path.classList.toggle("lit", on);
  };
  row.addEventListener("mouseenter", () => light(true));
  row.addEventListener("mouseleave", () => light(false));
}

addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
