// A picture of a plane from -1 to 1 each way; a click chooses a point, which is marked.
export default {
  template: `
    <div class="plane" @click="clicked">
      <img :src="picture" :alt="label" draggable="false">
      <svg viewBox="-1 -1 2 2" aria-hidden="true">
        <circle :cx="across" :cy="-up" r="0.06" fill="none" stroke="black" stroke-width="0.036" />
        <circle :cx="across" :cy="-up" r="0.06" fill="none" stroke="white" stroke-width="0.018" />
      </svg>
    </div>`,
  props: { picture: String, label: String, across: Number, up: Number },
  methods: {
    clicked(event) {
      const box = this.$el.getBoundingClientRect();
      const across = (2 * (event.clientX - box.left)) / box.width - 1;
      const up = 1 - (2 * (event.clientY - box.top)) / box.height;
      this.$emit("chosen", [across, up]);
    },
  },
};
