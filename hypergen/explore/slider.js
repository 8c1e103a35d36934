// The browser's own slider, which keyboards and screen readers know.
export default {
  template: `
    <input type="range" class="slider" :aria-label="label" :aria-valuetext="text"
      :min="min" :max="max" :step="step" :value="own" @input="moved">`,
  props: { label: String, text: String, min: Number, max: Number, step: Number, value: Number },
  data() {
    return { own: this.value };
  },
  watch: {
    value(value) {
      this.own = value;
    },
  },
  methods: {
    moved(event) {
      this.own = Number(event.target.value);
      this.$emit("moved", this.own);
    },
  },
};
