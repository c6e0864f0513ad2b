// Fragment shaders: `color(p, pixel)` of a place p, in units of half the frame's height, at `time` in seconds.
export const COMMON = `#version 300 es
precision highp float;
uniform vec2 size; uniform float time; out vec4 result;
float hash(vec2 p) { p = fract(p * vec2(123.34, 456.21)); p += dot(p, p + 45.32); return fract(p.x * p.y); }
float noise(vec2 p) {
  vec2 i = floor(p), f = fract(p); f = f * f * (3.0 - 2.0 * f);
  return mix(mix(hash(i), hash(i + vec2(1, 0)), f.x), mix(hash(i + vec2(0, 1)), hash(i + vec2(1, 1)), f.x), f.y);
}
float clouds(vec2 p, int octaves) {
  float sum = 0.0, weight = 0.5;
  for (int i = 0; i < octaves; i++) { sum += weight * noise(p); p = mat2(1.6, 1.2, -1.2, 1.6) * p; weight *= 0.5; }
  return sum;
}
float grain(vec2 pixel) { return hash(pixel + fract(time * 7.13) * 311.0) + hash(pixel * 1.7 + time) - 1.0; }
vec3 color(vec2 p, vec2 pixel);
void main() {
  vec2 p = (2.0 * gl_FragCoord.xy - size) / size.y;
  result = vec4(clamp(color(p, gl_FragCoord.xy), 0.0, 1.0), 1.0);
}
`;

export const SHADERS = {
  // Clouds that drift over a blue sky.
  sky: `vec3 color(vec2 p, vec2 pixel) {
    vec2 q = vec2(p.x, p.y * 1.8) * 1.3 + vec2(0.25 * time, 0.03 * time);
    float cover = clouds(q + 0.5 * clouds(q * 2.0 - 0.1 * time, 4), 8);
    float lit = clouds(q + vec2(0.06, 0.09), 7);
    vec3 air = mix(vec3(0.55, 0.72, 0.9), vec3(0.12, 0.32, 0.65), 0.5 + 0.5 * p.y);
    return mix(air, vec3(0.95, 0.93, 0.9) * (1.25 - 0.75 * lit), smoothstep(0.42, 0.68, cover));
  }`,
  // Ink in water: noise displaced by noise.
  ink: `vec3 color(vec2 p, vec2 pixel) {
    vec2 q = vec2(clouds(1.5 * p + 0.12 * time, 5), clouds(1.5 * p + vec2(5.2, 1.3) - 0.1 * time, 5));
    vec2 r = vec2(clouds(1.5 * p + 4.0 * q + 0.25 * time, 6), clouds(1.5 * p + 4.0 * q + vec2(8.3, 2.8), 6));
    float f = clouds(1.5 * p + 4.0 * r, 7);
    vec3 mixed = mix(vec3(0.93, 0.91, 0.86), vec3(0.08, 0.2, 0.42), clamp(1.9 * f * f + q.y - 0.25, 0.0, 1.0));
    return mix(mixed, vec3(0.65, 0.1, 0.16), 0.8 * clamp(length(r) - 0.62, 0.0, 1.0) * 2.0);
  }`,
  // A fire in the dark.
  fire: `vec3 color(vec2 p, vec2 pixel) {
    vec2 q = vec2(p.x * 2.6, p.y * 1.5 - 2.6 * time);
    float turbulent = clouds(q + 0.6 * clouds(q * 1.7 + time, 4), 6), height = p.y + 1.05;
    float flame = clamp(1.9 * turbulent - 0.62 * height - 0.9 * pow(abs(p.x) * 0.75, 2.0) + 0.12, 0.0, 1.0);
    vec2 cell = vec2(p.x * 14.0 + sin(4.0 * p.y + time), p.y * 14.0 - 9.0 * time);
    float spark = step(0.985, hash(floor(cell))) * smoothstep(0.4, 0.05, length(fract(cell) - 0.5));
    return vec3(1.8 * flame, 1.5 * flame * flame, 1.3 * pow(flame, 4.0)) + spark * vec3(1.0, 0.6, 0.2) + 0.012;
  }`,
  // Film of a gray landscape: strong grain, scratches, flicker.
  film: `vec3 color(vec2 p, vec2 pixel) {
    p += 0.006 * vec2(hash(vec2(floor(12.0 * time), 1.0)), hash(vec2(floor(12.0 * time), 2.0)));
    float shade = 0.82 - 0.22 * p.y + 0.15 * clouds(vec2(1.5 * p.x + 0.1 * time, 3.0 * p.y), 5);
    for (int i = 0; i < 5; i++) {
      float depth = float(i), ridge = 0.35 - 0.25 * depth + 0.45 * clouds(vec2((0.8 + 0.5 * depth) * p.x + (0.1 + 0.12 * depth) * time, 7.0 * depth), 7);
      float trees = (0.02 + 0.02 * depth) * noise(vec2(60.0 * p.x + 20.0 * (0.1 + 0.12 * depth) * time, depth));
      if (p.y < ridge + trees - 0.4) shade = 0.62 - 0.13 * depth + 0.12 * clouds(p * (9.0 + 6.0 * depth) + vec2((1.0 + depth) * time, 0.0), 5);
    }
    shade *= 0.94 + 0.1 * hash(vec2(floor(24.0 * time), 3.0));
    shade += 0.2 * step(abs(p.x - 3.0 * hash(vec2(floor(8.0 * time), 5.0)) + 1.5), 0.0015);
    return vec3(shade + 0.2 * grain(pixel)) * vec3(1.04, 1.0, 0.9) * (1.0 - 0.2 * dot(p, p) / 3.0);
  }`,
  // Northern lights over a dark lake: smooth shades near black, stars.
  aurora: `vec3 color(vec2 p, vec2 pixel) {
    float mirrored = step(p.y, -0.35);
    vec2 q = mirrored > 0.5 ? vec2(p.x + 0.02 * sin(90.0 * p.y + 5.0 * time), -0.7 - p.y) : p;
    vec3 sky = mix(vec3(0.02, 0.05, 0.09), vec3(0.004, 0.006, 0.02), q.y + 0.5);
    for (int i = 0; i < 4; i++) {
      float shift = float(i), band = 0.15 * shift + 0.35 * clouds(vec2(0.9 * q.x + 0.15 * time + 3.0 * shift, 0.2 * time), 4);
      float rays = 0.4 + 0.6 * noise(vec2(18.0 * q.x + 0.8 * time, shift + 0.4 * time));
      sky += rays * smoothstep(0.0, 0.02, q.y - band + 0.2) * exp(-4.5 * max(0.0, q.y - band + 0.2)) * mix(vec3(0.05, 0.34, 0.16), vec3(0.2, 0.05, 0.3), shift / 4.0);
    }
    sky += step(0.9985, hash(floor(q * 260.0))) * (0.3 + 0.5 * hash(floor(q * 260.0) + floor(8.0 * time))) * (1.0 - mirrored);
    float shore = -0.33 + 0.07 * clouds(vec2(5.0 * p.x, 1.0), 5);
    return abs(p.y + 0.35) < 0.35 + shore ? vec3(0.005) : sky * (1.0 - 0.45 * mirrored);
  }`,
  // A flight along a fractal of boxes, by sphere tracing.
  fractal: `float distance_to(vec3 p) {
    float scale = 1.0, trap = 1e3; p.xz = mod(p.xz + 2.0, 4.0) - 2.0;
    for (int i = 0; i < 7; i++) {
      p = -1.0 + 2.0 * fract(0.5 * p + 0.5);
      float k = 1.25 / dot(p, p); p *= k; scale *= k;
    }
    return 0.25 * abs(p.y) / scale;
  }
  vec3 color(vec2 p, vec2 pixel) {
    vec3 eye = vec3(0.4 * sin(0.3 * time), 0.55, 0.5 * time), ray = normalize(vec3(p.x + 0.3 * sin(0.5 * time), p.y - 0.3, 1.4));
    float t = 0.01; int i;
    for (i = 0; i < 70; i++) { float d = distance_to(eye + t * ray); if (d < 0.0008 * t) break; t += d; if (t > 8.0) break; }
    vec3 at = eye + t * ray; vec2 e = vec2(0.0006 * t, 0.0);
    vec3 normal = normalize(vec3(distance_to(at + e.xyy) - distance_to(at - e.xyy), distance_to(at + e.yxy) - distance_to(at - e.yxy), distance_to(at + e.yyx) - distance_to(at - e.yyx)) + 1e-6);
    vec3 base = 0.55 + 0.4 * cos(vec3(0.0, 1.1, 2.3) + 5.0 * at.y + at.x);
    vec3 lit = base * (0.25 + 0.9 * max(0.0, dot(normal, normalize(vec3(0.5, 0.8, -0.4))))) * (1.0 - float(i) / 85.0);
    return mix(vec3(0.62, 0.7, 0.8), lit, exp(-0.35 * t));
  }`,
  // Water's ripples over pebbles, with light that dances.
  pebbles: `vec3 color(vec2 p, vec2 pixel) {
    vec2 q = p + 0.05 * vec2(clouds(4.0 * p + 1.1 * time, 3), clouds(4.0 * p - 1.3 * time + 9.0, 3)) + vec2(0.12 * time, 0.0);
    vec2 cell = floor(5.0 * q); float near = 9.0, second = 9.0; vec2 owner;
    for (int y = -1; y <= 1; y++) for (int x = -1; x <= 1; x++) {
      vec2 c = cell + vec2(x, y), d = c + vec2(hash(c), hash(c + 7.7)) - 5.0 * q; float l = length(d);
      if (l < near) { second = near; near = l; owner = c; } else second = min(second, l);
    }
    float stone = smoothstep(0.02, 0.3, second - near), tint = hash(owner + 3.1);
    vec3 base = mix(vec3(0.28, 0.24, 0.2), vec3(0.72, 0.68, 0.6), tint) * (0.7 + 0.6 * clouds(30.0 * q, 5));
    float caustic = pow(1.0 - abs(2.0 * clouds(3.5 * p + 0.6 * time + clouds(6.0 * p - time, 3), 3) - 0.95), 7.0);
    return base * (0.25 + 0.75 * stone) * vec3(0.75, 0.95, 0.98) + 0.4 * caustic * vec3(0.9, 1.0, 0.95);
  }`,
};
