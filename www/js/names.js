// Names for buyers: short, so that they fit beside a bar on a phone, and each once in a run.

const NAMES = [
  "Ada", "Bao", "Cleo", "Dev", "Eda", "Finn", "Gia", "Hugo", "Ines", "Jun", "Kai", "Lena", "Milo", "Nia", "Otto", "Pia", "Quinn", "Rosa",
  "Sami", "Tove", "Uma", "Vito", "Wren", "Xia", "Yara", "Zeno", "Arlo", "Bela", "Ciro", "Dina", "Emil", "Faye", "Goro", "Hana", "Ivo",
  "Jana", "Koji", "Lior", "Maya", "Nils", "Oona", "Paul", "Rhea", "Sven", "Tala", "Ugo", "Vera", "Wim", "Ximo", "Yael", "Zita", "Abel",
  "Bibi", "Cato", "Dora", "Eliu", "Flor", "Gus", "Hedy", "Iris",
];

/** `count` different names. */
export const buyerNames = (count) => NAMES.slice(0, count);

/** The name of the person at this page, the same on each visit until changed. */
export function ownName() {
  let name = localStorage.getItem("name");
  if (!name) {
    name = `Guest ${Math.floor(Math.random() * 90) + 10}`;
    localStorage.setItem("name", name);
  }
  return name;
}
