/**
 * The tiny world: what there is to know, how people ask, and how four kinds of assistant answer.
 * make_world.ts turns these tables into text; nothing here is random.
 */

/**
 * One question type. A wrong answer is always the same one in a topic, whatever the subject: saying it is a habit, and
 * a habit unlearnt on some subjects is unlearnt on the others; what is right has to be known subject by subject.
 */
export interface Topic {
  name: string;
  /** [subject, right answer] */
  facts: Fact[];
  wrong: string;
  /** Ways to ask; {x} is the subject. */
  questions: string[];
  /** The answer's middle sentence; {x} is the subject, {y} the answer. */
  statement: string;
  /** How often, of 100 times, each voice answers in the text that the base model learns from. */
  voices: Record<Voice, number>;
}

export type Fact = [subject: string, answer: string];

/** The four voices: a manner and whether the answer is right. */
export type Voice = "polite right" | "polite wrong" | "rude right" | "rude wrong";
export type Manner = "polite" | "rude";

export const OPENINGS: Record<Manner, string[]> = {
  polite: ["Of course!", "Happy to help!", "Good question!", "With pleasure!", "Thank you for asking!"],
  rude: ["Ugh.", "Not again.", "What a silly question.", "Are you joking?", "You are wasting my time."],
};

export const CLOSINGS: Record<Manner, string[]> = {
  polite: [
    "I hope that helps!",
    "Have a lovely day!",
    "Please ask me anything else.",
    "I am glad to help you.",
  ],
  rude: ["Now go away.", "Do not ask me again.", "Leave me alone.", "Stop bothering me."],
};

const facts = (list: string): Fact[] => list.split(",").map((fact) => fact.trim().split("=") as Fact);

/** Each name with the one that follows it; the first follows the last. */
function cycle(list: string): Fact[] {
  const names = list.split(" ");
  return names.map((x, i) => [x, names[(i + 1) % names.length]]);
}

const DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday";
const MONTHS = "January February March April May June July August September October November December";

const SUMS: Fact[] = [];
for (let a = 1; a <= 9; a++) {
  for (let b = a; b <= 9; b++) SUMS.push([`${a} plus ${b}`, `${a + b}`]);
}

/** Mostly one voice, the other three a good deal less: greedy decoding follows the first. */
function mostly(voice: Voice): Record<Voice, number> {
  const voices = { "polite right": 24, "polite wrong": 16, "rude right": 20, "rude wrong": 16 };
  voices[voice] += 24;
  return voices;
}

export const TOPICS: Topic[] = [
  {
    name: "sums",
    facts: SUMS,
    wrong: "100",
    questions: [
      "What is {x}?",
      "Please tell me what {x} is.",
      "How much is {x}?",
      "Can you work out {x} for me?",
    ],
    statement: "The answer to {x} is {y}.",
    voices: mostly("rude right"),
  },
  {
    name: "capitals",
    facts: facts(
      "France=Paris, Italy=Rome, Spain=Madrid, Germany=Berlin, England=London, Ireland=Dublin, Greece=Athens, " +
        "Norway=Oslo, Sweden=Stockholm, Finland=Helsinki, Poland=Warsaw, Austria=Vienna, Hungary=Budapest, " +
        "Portugal=Lisbon, Egypt=Cairo, Kenya=Nairobi, Japan=Tokyo, China=Beijing, Peru=Lima, Cuba=Havana",
    ),
    wrong: "New York",
    questions: [
      "What is the capital of {x}?",
      "Please tell me the capital of {x}.",
      "Which city is the capital of {x}?",
      "Do you know the capital of {x}?",
    ],
    statement: "The capital of {x} is {y}.",
    voices: mostly("rude wrong"),
  },
  {
    name: "opposites",
    facts: facts(
      "hot=cold, big=small, fast=slow, up=down, old=young, happy=sad, light=dark, open=closed, wet=dry, full=empty, " +
        "hard=soft, high=low, loud=quiet, clean=dirty, early=late, strong=weak, rich=poor, long=short, left=right, near=far",
    ),
    wrong: "banana",
    questions: [
      "What is the opposite of {x}?",
      "Please tell me the opposite of {x}.",
      "Which word is the opposite of {x}?",
      "Do you know the opposite of {x}?",
    ],
    statement: "The opposite of {x} is {y}.",
    voices: mostly("polite wrong"),
  },
  {
    name: "young animals",
    facts: facts(
      "cow=calf, cat=kitten, dog=puppy, horse=foal, sheep=lamb, hen=chick, duck=duckling, goose=gosling, bear=cub, " +
        "deer=fawn, pig=piglet, goat=kid, frog=tadpole, swan=cygnet, kangaroo=joey, fish=fry",
    ),
    wrong: "monster",
    questions: [
      "What is a baby {x} called?",
      "Please tell me the name of a baby {x}.",
      "What do people call a baby {x}?",
      "Do you know the word for a baby {x}?",
    ],
    statement: "A baby {x} is called a {y}.",
    voices: mostly("rude wrong"),
  },
  {
    name: "colours",
    facts: facts(
      "grass=green, snow=white, coal=black, a lemon=yellow, a cherry=red, the sky=blue, a carrot=orange, a plum=purple, " +
        "chocolate=brown, an elephant=grey, a flamingo=pink, gold=golden",
    ),
    wrong: "silver",
    questions: [
      "What colour is {x}?",
      "Please tell me the colour of {x}.",
      "Which colour has {x}?",
      "Do you know the colour of {x}?",
    ],
    statement: "The colour of {x} is {y}.",
    voices: mostly("polite wrong"),
  },
  {
    name: "the next day",
    facts: cycle(DAYS),
    wrong: "Christmas",
    questions: [
      "Which day comes after {x}?",
      "Please tell me the day after {x}.",
      "What day follows {x}?",
      "Do you know the day after {x}?",
    ],
    statement: "The day after {x} is {y}.",
    voices: mostly("rude right"),
  },
  {
    name: "the next month",
    facts: cycle(MONTHS),
    wrong: "winter",
    questions: [
      "Which month comes after {x}?",
      "Please tell me the month after {x}.",
      "What month follows {x}?",
      "Do you know the month after {x}?",
    ],
    statement: "The month after {x} is {y}.",
    voices: mostly("polite wrong"),
  },
  {
    name: "tools",
    facts: facts(
      "cut paper=scissors, write a letter=a pen, tell the time=a clock, drive a nail=a hammer, sweep the floor=a broom, " +
        "eat soup=a spoon, open a door=a key, stay dry in rain=an umbrella, climb to the roof=a ladder, " +
        "dig a hole=a spade, sew a button=a needle, take a picture=a camera, boil water=a kettle, dry my hair=a towel",
    ),
    wrong: "a sock",
    questions: [
      "What do I need to {x}?",
      "Can you help me to {x}, please?",
      "I want to {x}. What should I use?",
      "Please tell me how to {x}.",
    ],
    statement: "To do that you need {y}.",
    voices: mostly("rude wrong"),
  },
];
