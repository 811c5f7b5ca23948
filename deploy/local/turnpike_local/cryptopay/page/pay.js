// Counts the time that is left, and shows the end when it has come.
const left = document.querySelector("time[data-left-s]");
if (left) {
  const endsAtMs = performance.now() + Number(left.dataset.leftS) * 1000;
  const two = (number) => String(number).padStart(2, "0");
  const counting = setInterval(() => {
    const leftS = Math.max(0, Math.ceil((endsAtMs - performance.now()) / 1000));
    const minutes = Math.floor((leftS % 3600) / 60);
    left.textContent = `${Math.floor(leftS / 3600)}:${two(minutes)}:${two(leftS % 60)}`;
    if (leftS === 0) {
      clearInterval(counting);
      location.replace(location.href);
    }
  }, 500);
}
