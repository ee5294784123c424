// Shows an order's state as it changes. Without it the page reloads itself instead.
"use strict";
{
  const place = document.querySelector("[data-live]");
  const source = new EventSource(place.dataset.live);
  source.addEventListener("state", (event) => {
    // Written by the shop's own templates, and escaped there.
    if (place.innerHTML.trim() !== event.data.trim()) place.innerHTML = event.data;
  });
  source.addEventListener("settled", () => source.close());
}
