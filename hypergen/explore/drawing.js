// A canvas to draw an image on; it tells the pixels, row by row, whenever the pen is lifted.
const SCALE = 10; // points of the canvas to a pixel of the image

export default {
  template: `
    <canvas ref="canvas" class="drawing" role="img" :aria-label="label"
      :width="columns * scale" :height="rows * scale"
      @pointerdown.prevent="down" @pointermove.prevent="move"
      @pointerup="up" @pointercancel="up"></canvas>`,
  props: { columns: Number, rows: Number, background: String, pen: String, label: String },
  data: () => ({ scale: SCALE, last: null }),
  mounted() {
    this.clear();
  },
  methods: {
    context() {
      return this.$refs.canvas.getContext("2d", { willReadFrequently: true });
    },
    clear() {
      const context = this.context();
      context.fillStyle = this.background;
      context.fillRect(0, 0, this.columns * SCALE, this.rows * SCALE);
    },
    place(event) {
      const canvas = this.$refs.canvas;
      const box = canvas.getBoundingClientRect();
      return [
        ((event.clientX - box.left) * canvas.width) / box.width,
        ((event.clientY - box.top) * canvas.height) / box.height,
      ];
    },
    line(from, to) {
      const context = this.context();
      context.strokeStyle = this.pen;
      context.lineWidth = (SCALE * Math.min(this.rows, this.columns)) / 12;
      context.lineCap = context.lineJoin = "round";
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(...to);
      context.stroke();
    },
    down(event) {
      this.$refs.canvas.setPointerCapture(event.pointerId);
      this.last = this.place(event);
      this.line(this.last, this.last);
    },
    move(event) {
      if (!this.last) return;
      const to = this.place(event);
      this.line(this.last, to);
      this.last = to;
    },
    up() {
      if (!this.last) return;
      this.last = null;
      this.$emit("drawn", this.pixels());
    },
    pixels() {
      // The mean of each square of points: what a browser makes of shrinking differs.
      const width = this.columns * SCALE;
      const points = this.context().getImageData(0, 0, width, this.rows * SCALE).data;
      const sums = new Array(this.rows * this.columns).fill(0);
      for (let index = 0; index < points.length / 4; index++) {
        const row = Math.floor(Math.floor(index / width) / SCALE);
        sums[row * this.columns + Math.floor((index % width) / SCALE)] += points[4 * index];
      }
      return sums.map((sum) => Math.round(sum / SCALE ** 2));
    },
  },
};
