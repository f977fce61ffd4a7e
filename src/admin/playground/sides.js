// Which of the panels beside the map are shown. CSS does it by the switch; where the game's is always there, it stands for no other.

const GAME_IS_SHOWN = matchMedia("(min-width: 1200px)");

export function keepSideShown() {
  const choice = (value) => document.querySelector(`input[name=side][value=${value}]`);
  let isBorrowed = false;
  const settle = () => {
    if (GAME_IS_SHOWN.matches && choice("game").checked) {
      choice("chat").checked = isBorrowed = true;
    } else if (!GAME_IS_SHOWN.matches && isBorrowed) {
      isBorrowed = false;
      if (choice("chat").checked) choice("game").checked = true;
    }
  };
  document.querySelector(".tabs").addEventListener("change", () => (isBorrowed = false));
  GAME_IS_SHOWN.addEventListener("change", settle);
  settle();
}
