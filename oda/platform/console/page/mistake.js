// What a form says when it can't be sent.

/** Something the form can't send; `control` is where it is. */
export class Mistake extends Error {
  constructor(text, control) {
    super(text);
    this.control = control;
  }
}
