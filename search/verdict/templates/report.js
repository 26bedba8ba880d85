(() => {
  const ship = document.querySelector('.grid thead .ship');
  if (ship) {
    const frame = ship.closest('.scroll');
    frame.scrollLeft = ship.offsetLeft + ship.offsetWidth / 2 - frame.clientWidth / 2;
  }
  const table = document.querySelector('table.trials');
  if (!table) return;
  const value = (body, column) => {
    const text = body.rows[0].cells[column].dataset.v ?? body.rows[0].cells[column].textContent.trim();
    const number = parseFloat(text);
    return text === '' ? null : Number.isNaN(number) || /^[^-+.\d]/.test(text) ? text.toLowerCase() : number;
  };
  table.querySelectorAll('th button').forEach((button) => button.addEventListener('click', () => {
    const head = button.parentElement, column = head.cellIndex;
    const down = head.getAttribute('aria-sort') === 'descending';
    table.querySelectorAll('th').forEach((th) => th.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', down ? 'ascending' : 'descending');
    const sign = down ? 1 : -1;
    [...table.tBodies].sort((a, b) => {
      const x = value(a, column), y = value(b, column);
      if (x === null || y === null) return (x === null) - (y === null);
      return (x < y ? -1 : x > y ? 1 : 0) * sign;
    }).forEach((body) => table.append(body));
  }));
  table.addEventListener('click', (event) => {
    const button = event.target.closest('button.open');
    if (!button) return;
    const detail = button.closest('tbody').rows[1];
    detail.hidden = !detail.hidden;
    button.setAttribute('aria-expanded', String(!detail.hidden));
  });
  document.querySelector('input.find').addEventListener('input', (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const body of table.tBodies) {
      const text = body.rows[0].textContent.toLowerCase();
      body.hidden = !words.every((word) => text.includes(word));
    }
  });
})();
