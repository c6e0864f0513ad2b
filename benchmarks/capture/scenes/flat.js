// Drawings in two dimensions. Each function gets a canvas and returns what draws it: draw(seconds, frame).

function randoms(seed) {
  let state = seed * 7919 + 1;
  return () => ((state = (state * 48271) % 2147483647) - 1) / 2147483646;
}

// Conway's life; cells are colored by age.
export function life(context, width, height) {
  const size = 8, columns = width / size, rows = height / size, random = randoms(1);
  let ages = Uint8Array.from({ length: columns * rows }, () => (random() < 0.3 ? 1 : 0));
  return (_, frame) => {
    if (frame % 3) {
      const next = new Uint8Array(ages.length);
      for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) {
        let near = 0;
        for (let j = -1; j <= 1; j++) for (let i = -1; i <= 1; i++) if (i || j) near += ages[((y + j + rows) % rows) * columns + ((x + i + columns) % columns)] > 0;
        const age = ages[y * columns + x];
        next[y * columns + x] = near === 3 || (age && near === 2) ? Math.min(60, age + 1) : 0;
      }
      ages = next;
    }
    context.fillStyle = "#0c0f18";
    context.fillRect(0, 0, width, height);
    ages.forEach((age, i) => {
      if (!age) return;
      context.fillStyle = `hsl(${190 - 3 * age}, 80%, ${70 - age / 2}%)`;
      context.fillRect((i % columns) * size, Math.floor(i / columns) * size, size - 1, size - 1);
    });
  };
}

// A flock of birds before an evening sky.
export function flock(context, width, height) {
  const random = randoms(2), birds = Array.from({ length: 500 }, () => ({ x: width * random(), y: height * random(), u: 4 * random() - 2, v: 4 * random() - 2 }));
  const sky = context.createLinearGradient(0, 0, 0, height);
  [["0", "#22305c"], ["0.55", "#c8707a"], ["0.8", "#f6b46a"], ["1", "#503040"]].forEach(([at, color]) => sky.addColorStop(Number(at), color));
  return seconds => {
    context.fillStyle = sky;
    context.fillRect(0, 0, width, height);
    context.fillStyle = "#15101c";
    for (const bird of birds) {
      let count = 0, x = 0, y = 0, u = 0, v = 0;
      for (const other of birds) {
        const dx = other.x - bird.x, dy = other.y - bird.y, apart = dx * dx + dy * dy;
        if (apart > 3600) continue;
        count++;
        x += dx;
        y += dy;
        u += other.u;
        v += other.v;
        if (apart < 300 && apart) (bird.u -= dx / apart, bird.v -= dy / apart);
      }
      bird.u += 0.002 * (x / count) + 0.06 * (u / count - bird.u) + 0.0006 * (width * (0.5 + 0.3 * Math.sin(seconds)) - bird.x);
      bird.v += 0.002 * (y / count) + 0.06 * (v / count - bird.v) + 0.0008 * (height * 0.4 - bird.y);
      const speed = Math.hypot(bird.u, bird.v) / 7;
      if (speed > 1) (bird.u /= speed, bird.v /= speed);
      bird.x += bird.u;
      bird.y += bird.v;
      const wing = 7 * Math.sin(14 * seconds + bird.x / 30);
      context.beginPath();
      context.moveTo(bird.x - 9, bird.y - wing);
      context.quadraticCurveTo(bird.x - 3, bird.y - 2, bird.x, bird.y);
      context.quadraticCurveTo(bird.x + 3, bird.y - 2, bird.x + 9, bird.y - wing);
      context.quadraticCurveTo(bird.x, bird.y + 5, bird.x - 9, bird.y - wing);
      context.fill();
    }
  };
}

// Into the Mandelbrot set, pixel by pixel.
export function mandelbrot(context, width, height) {
  const image = context.createImageData(width, height);
  return seconds => {
    const scale = 0.0045 * 0.62 ** seconds, turn = 0.25 * seconds, cos = scale * Math.cos(turn), sin = scale * Math.sin(turn);
    for (let y = 0, at = 0; y < height; y++) for (let x = 0; x < width; x++, at += 4) {
      const u = x - width / 2, v = y - height / 2, a = -0.7436 + u * cos - v * sin, b = 0.1318 + u * sin + v * cos;
      let r = 0, i = 0, n = 0;
      for (let rr = 0, ii = 0; rr + ii < 16 && n < 160; n++) (i = 2 * r * i + b, r = rr - ii + a, rr = r * r, ii = i * i);
      const smooth = n - Math.log2(Math.log2(Math.max(4, r * r + i * i))), shade = n === 160 ? 0 : 1;
      for (let c = 0; c < 3; c++) image.data[at + c] = shade * (128 + 127 * Math.cos(0.16 * smooth + 2.1 + 0.9 * c));
      image.data[at + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  };
}

// A platform game of square pixels: three layers that scroll at different speeds, and a runner.
export function platformer(context, width, height) {
  context.imageSmoothingEnabled = false;
  const pixel = 4, random = randoms(3), small = (w, h, draw) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: w, height: h });
    draw(canvas.getContext("2d"));
    return canvas;
  };
  const tiles = Array.from({ length: 6 }, (_, kind) => small(16, 16, brush => {
    for (let y = 0; y < 16; y++) for (let x = 0; x < 16; x++) {
      const light = 26 + 22 * random() + (y < 4 ? 14 : 0);
      brush.fillStyle = kind < 3 && y < 4 ? `hsl(${95 + 20 * random()}, 60%, ${light}%)` : `hsl(${[28, 18, 215][kind % 3]}, 35%, ${light}%)`;
      brush.fillRect(x, y, 1, 1);
    }
  }));
  const hills = [0, 1].map(layer => small(640, 180, brush => {
    for (let x = 0; x < 640; x++) {
      const top = 60 + 40 * layer + 26 * Math.sin((x * 6.283 * (2 + layer)) / 640) + 10 * Math.sin((x * 6.283 * 9) / 640) + 4 * random();
      brush.fillStyle = layer ? "#3f7f6a" : "#6f8fb8";
      brush.fillRect(x, top, 1, 180 - top);
    }
  }));
  const ground = Array.from({ length: 200 }, (_, i) => 3 + Math.floor(2 * Math.sin(i / 3) + 2 * random()));
  return seconds => {
    context.fillStyle = "#a8d8f0";
    context.fillRect(0, 0, width, height);
    [14, 34].forEach((speed, layer) => {
      for (let copy = 0; copy < 2; copy++) context.drawImage(hills[layer], (copy * 640 - ((speed * seconds) % 640)) * pixel / 2, height - 180 * 3, 640 * pixel / 2, 180 * 3);
    });
    const left = Math.round(70 * seconds);
    for (let column = 0; column * 16 * pixel < width + 64; column++) {
      const place = Math.floor(left / 16) + column, x = (place * 16 - left) * pixel;
      for (let row = 0; row < ground[place]; row++) context.drawImage(tiles[(place + (row === ground[place] - 1 ? 0 : 3)) % 3 + (row === ground[place] - 1 ? 0 : 3)], x, height - (row + 1) * 16 * pixel, 16 * pixel, 16 * pixel);
      context.fillStyle = "#ffd23a";
      if (place % 4 === 1) context.fillRect(x + 16, height - (ground[place] + 2) * 64 + 12 * Math.sin(6 * seconds + place), 6 * pixel * Math.abs(Math.cos(5 * seconds + place)) + pixel, 7 * pixel);
    }
    const floor = height - 6.3 * 64 - 70 * Math.abs(Math.sin(4.2 * seconds)), step = Math.floor(10 * seconds) % 2;
    [["#d43c3c", 0, 0, 9, 4], ["#f2c79b", 1, 4, 8, 5], ["#2f56c8", 0, 9, 9, 7], ["#40281c", step ? 0 : 2, 16, 3, 4], ["#40281c", step ? 6 : 4, 16, 3, 4]].forEach(([color, x, y, w, h]) => {
      context.fillStyle = color;
      context.fillRect(width * 0.35 + x * pixel, floor + y * pixel, w * pixel, h * pixel);
    });
  };
}

// Fireworks over a dark skyline.
export function fireworks(context, width, height) {
  const random = randoms(4), sparks = [];
  for (let burst = 0; burst < 26; burst++) {
    const start = 3.2 * random() - 1.2, x = width * (0.1 + 0.8 * random()), y = height * (0.12 + 0.45 * random()), hue = 360 * random();
    for (let spark = 0; spark < 160; spark++) {
      const angle = 6.283 * random(), speed = 190 * Math.sqrt(random());
      sparks.push({ start, x, y, hue: hue + 30 * random(), u: speed * Math.cos(angle), v: speed * Math.sin(angle), life: 0.9 + 0.9 * random() });
    }
  }
  const towers = Array.from({ length: 40 }, (_, i) => [i * 34, 60 + 130 * random()]);
  return seconds => {
    context.globalCompositeOperation = "source-over";
    context.fillStyle = "rgba(4, 5, 14, 0.28)";
    context.fillRect(0, 0, width, height);
    context.globalCompositeOperation = "lighter";
    for (const { start, x, y, hue, u, v, life: span } of sparks) {
      const age = seconds - start;
      if (age < 0 || age > span) continue;
      const slow = (1 - Math.exp(-2 * age)) / 2, px = x + u * slow * 1.6, py = y + v * slow * 1.6 + 40 * age * age;
      context.fillStyle = `hsla(${hue}, 90%, ${50 + 40 * (1 - age / span)}%, ${1 - age / span})`;
      context.fillRect(px, py, 3, 3);
    }
    context.globalCompositeOperation = "source-over";
    context.fillStyle = "#020308";
    for (const [x, tall] of towers) context.fillRect(x, height - tall, 30, tall);
  };
}

// A test card: bars, gratings, a zone plate that turns, letters, noise.
export function testcard(context, width, height) {
  const side = 360, plate = context.createImageData(side, side), static_ = context.createImageData(300, 160), random = randoms(5);
  return (seconds, frame) => {
    context.fillStyle = "#777";
    context.fillRect(0, 0, width, height);
    "white yellow cyan lime magenta red blue black".split(" ").forEach((color, i) => {
      context.fillStyle = color;
      context.fillRect((i * width) / 8, 0, width / 8, 130);
    });
    for (let x = 0, light = 0; x < width; x += 2 + (x / width) * 14, light ^= 1) {
      context.fillStyle = light ? "white" : "black";
      context.fillRect((x + 40 * seconds) % width, 150, 1 + (x / width) * 7, 80);
    }
    for (let y = 0, at = 0; y < side; y++) for (let x = 0; x < side; x++, at += 4) {
      const u = x - side / 2, v = y - side / 2;
      plate.data[at] = plate.data[at + 1] = plate.data[at + 2] = 128 + 120 * Math.cos((u * u + v * v) / 130 - 9 * seconds);
      plate.data[at + 3] = 255;
    }
    context.putImageData(plate, width / 2 - side / 2, 290);
    for (let at = 0; at < static_.data.length; at += 4) {
      static_.data.fill(255 * random(), at, at + 3);
      static_.data[at + 3] = 255;
    }
    context.putImageData(static_, 60, 300);
    const ramp = context.createLinearGradient(60, 0, 360, 0);
    ramp.addColorStop(0, "black");
    ramp.addColorStop(1, "white");
    context.fillStyle = ramp;
    context.fillRect(60, 500, 300, 80);
    context.fillStyle = "black";
    [12, 16, 22, 30, 42].forEach((size, row) => {
      context.font = `${size}px DejaVu Serif`;
      context.fillText(`Frame ${frame} at ${seconds.toFixed(3)} s`, width - 400 + 20 * Math.sin(seconds + row), 330 + 55 * row);
    });
    context.save();
    context.translate(width - 220, 600);
    context.rotate(2 * seconds);
    context.strokeStyle = "white";
    for (let ray = 0; ray < 36; ray++) (context.rotate(Math.PI / 18), context.beginPath(), context.moveTo(6, 0), context.lineTo(80, 0), context.stroke());
    context.restore();
  };
}

// Brush strokes that fill a canvas along a slow swirl.
export function paint(context, width, height) {
  const random = randoms(6);
  context.fillStyle = "#efe6d2";
  context.fillRect(0, 0, width, height);
  function strokes(count, seconds) {
    for (let stroke = 0; stroke < count; stroke++) {
      let x = width * random(), y = height * random();
      const hue = 40 + 160 * (y / height) + 40 * random(), size = 3 + 12 * random();
      for (let hair = 0; hair < 5; hair++) {
        let px = x + size * (random() - 0.5), py = y + size * (random() - 0.5);
        context.strokeStyle = `hsla(${hue}, ${30 + 45 * random()}%, ${25 + 50 * random()}%, 0.8)`;
        context.lineWidth = 0.5 + (size / 3) * random();
        context.beginPath();
        context.moveTo(px, py);
        for (let step = 0; step < 8; step++) {
          const angle = 3 * Math.sin(px / 260 + seconds / 2) + 2 * Math.cos(py / 190 - seconds / 3);
          context.lineTo((px += 7 * Math.cos(angle)), (py += 7 * Math.sin(angle)));
        }
        context.stroke();
      }
    }
  }
  strokes(9000, 0);
  return seconds => strokes(420, seconds);
}
