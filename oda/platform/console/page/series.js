// The newest points of one datastream, by time. A point that comes again takes the old one's place.

export class Series {
  points = [];

  constructor(limit) {
    this.limit = limit;
  }

  add(at, value) {
    const points = this.points;
    const index = this.#placeOf(at);
    if (points[index]?.at === at) points[index].value = value;
    else points.splice(index, 0, { at, value });
    if (points.length > this.limit) points.splice(0, points.length - this.limit);
  }

  clear() {
    this.points = [];
  }

  #placeOf(at) {
    let [low, high] = [0, this.points.length];
    if (high === 0 || this.points[high - 1].at < at) return high;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.points[middle].at < at) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
