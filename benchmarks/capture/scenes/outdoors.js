// Scenes under the sky. Each function fills a scene and returns what moves it: update(seconds, step).
import * as THREE from "three";
import { drawnTexture, noise, noiseTexture, randoms } from "./textures.js";

const GRASS = [[0, 30, 50, 12], [0.4, 60, 95, 25], [0.7, 110, 140, 50], [1, 170, 165, 90]];
const ROCK = [[0, 40, 36, 34], [0.5, 105, 98, 90], [1, 190, 185, 175]];
const SAND = [[0, 130, 90, 50], [0.5, 200, 155, 95], [1, 240, 210, 150]];

function light(scene, sky, ground, sun, at) {
  scene.add(new THREE.HemisphereLight(sky, ground, 1.2));
  const lamp = new THREE.DirectionalLight(sun, 3);
  lamp.position.set(...at);
  scene.add(lamp);
  return lamp;
}

function haze(scene, color, near, far) {
  scene.background = new THREE.Color(color);
  scene.fog = new THREE.Fog(color, near, far);
}

function hills(seed, extent, height, map) {
  const size = 192, values = noise(size, 6, seed);
  const geometry = new THREE.PlaneGeometry(extent, extent, size - 1, size - 1).rotateX(-Math.PI / 2);
  values.forEach((value, i) => geometry.attributes.position.setY(i, height * (value - 0.5) * 2));
  geometry.computeVertexNormals();
  return new THREE.Mesh(geometry, new THREE.MeshStandardMaterial({ map, roughness: 1 }));
}

function scatter(geometry, material, count, place) {
  const mesh = new THREE.InstancedMesh(geometry, material, count), dummy = new THREE.Object3D();
  for (let i = 0; i < count; i++) {
    place(dummy, i);
    dummy.updateMatrix();
    mesh.setMatrixAt(i, dummy.matrix);
  }
  return mesh;
}

const leafTexture = (seed, hue) => drawnTexture(256, seed, (context, size, random) => {
  for (let leaf = 0; leaf < 420; leaf++) {
    const angle = 6.28 * random(), radius = size * 0.46 * Math.sqrt(random());
    context.fillStyle = `hsl(${hue + 40 * random()}, ${35 + 40 * random()}%, ${14 + 36 * random()}%)`;
    context.beginPath();
    context.ellipse(size / 2 + radius * Math.cos(angle), size / 2 + radius * Math.sin(angle), 9, 4, 6.28 * random(), 0, 6.28);
    context.fill();
  }
});

// A walk through a wood: trunks, crowns of leaf cards that sway, fog.
export function forest({ scene, camera }, hue = 70, fog = 0xa9b8b0) {
  haze(scene, fog, 4, 75);
  light(scene, 0xdfe9ff, 0x40402a, 0xffe2b0, [20, 40, -10]);
  const random = randoms(3), ground = noiseTexture(256, 8, 4, GRASS, 40);
  scene.add(hills(8, 240, 1.2, ground));
  const spots = Array.from({ length: 420 }, () => [160 * random() - 80, 160 * random() - 80, 0.7 + random()]);
  const free = spots.filter(([x]) => Math.abs(x) > 2.2);
  const bark = noiseTexture(256, 8, 5, [[0, 20, 14, 8], [0.6, 80, 60, 42], [1, 130, 110, 85]], 3);
  scene.add(scatter(new THREE.CylinderGeometry(0.16, 0.34, 9, 8), new THREE.MeshStandardMaterial({ map: bark }),
    free.length, (tree, i) => (tree.position.set(free[i][0], 4, free[i][1]), tree.scale.setScalar(free[i][2]))));
  const leaves = new THREE.MeshStandardMaterial({ map: leafTexture(6, hue), alphaTest: 0.5, side: THREE.DoubleSide });
  const cards = scatter(new THREE.PlaneGeometry(4.4, 4.4), leaves, free.length * 5, (card, i) => {
    const [x, z, scale] = free[Math.floor(i / 5)];
    card.position.set(x + 3 * random() - 1.5, (4 + 4.5 * random()) * scale, z + 3 * random() - 1.5);
    card.rotation.set(3 * random(), 6.28 * random(), 3 * random());
  });
  scene.add(cards);
  return seconds => {
    camera.position.set(0.5 * Math.sin(seconds), 1.9 + 0.06 * Math.sin(9 * seconds), 50 - 2.6 * seconds);
    camera.rotation.set(0.05, 0.15 * Math.sin(0.8 * seconds), 0.01 * Math.sin(4.5 * seconds));
    cards.rotation.z = 0.006 * Math.sin(2.2 * seconds);
  };
}

export const autumn = stage => forest(stage, 12, 0xd8c3a0);

// Blades of grass in the wind, close to the ground.
export function meadow({ scene, camera }) {
  haze(scene, 0xbcd6ee, 6, 34);
  light(scene, 0xcfe2ff, 0x556633, 0xfff0cc, [-10, 20, 5]);
  scene.add(hills(9, 120, 0.4, noiseTexture(256, 8, 7, GRASS, 30)));
  const random = randoms(11), blade = new THREE.ConeGeometry(0.02, 0.9, 3, 4).translate(0, 0.45, 0);
  const material = new THREE.MeshStandardMaterial({ color: 0x7fa83c }), time = { value: 0 };
  material.onBeforeCompile = shader => {
    shader.uniforms.time = time;
    shader.vertexShader = "uniform float time;\n" + shader.vertexShader.replace("#include <begin_vertex>",
      `#include <begin_vertex>
       vec2 root = instanceMatrix[3].xz;
       float gust = sin(1.7 * time + 0.7 * root.x) + 0.6 * sin(3.1 * time + 1.3 * root.y + 0.4 * root.x);
       transformed.x += 0.22 * gust * position.y * position.y; transformed.z += 0.1 * gust * position.y;`);
  };
  const grass = scatter(blade, material, 16000, stalk => {
    stalk.position.set(36 * random() - 18, -0.3, 36 * random() - 18);
    stalk.rotation.set(0.3 * random(), 6.28 * random(), 0.3 * random());
    stalk.scale.setScalar(0.5 + random());
  });
  for (let i = 0; i < 16000; i++) grass.setColorAt(i, new THREE.Color().setHSL(0.2 + 0.1 * random(), 0.6, 0.3 + 0.4 * random()));
  const flowers = scatter(new THREE.SphereGeometry(0.07, 6, 5), new THREE.MeshStandardMaterial({ color: 0xffffff }), 900,
    flower => flower.position.set(36 * random() - 18, 0.2 + 0.7 * random(), 36 * random() - 18));
  for (let i = 0; i < 900; i++) flowers.setColorAt(i, new THREE.Color().setHSL(random(), 0.9, 0.6));
  scene.add(grass, flowers);
  return seconds => {
    time.value = seconds;
    camera.position.set(-4 + 1.2 * seconds, 1.1, 8 - 0.5 * seconds);
    camera.lookAt(2 + seconds, 0.7, -6);
  };
}

// A flight over mountains.
export function mountains({ scene, camera }, colors = ROCK, fog = 0x9fb9d8) {
  haze(scene, fog, 60, 420);
  light(scene, 0xbfd6ff, 0x30281c, 0xffe0b5, [-80, 60, -40]);
  scene.add(hills(21, 900, 90, noiseTexture(512, 9, 22, colors, 14)));
  return seconds => {
    camera.position.set(40 * Math.sin(0.3 * seconds), 75, 200 - 45 * seconds);
    camera.rotation.set(-0.28, 0.2 * Math.sin(0.5 * seconds), 0.12 * Math.sin(0.7 * seconds));
  };
}

export const dunes = stage => mountains(stage, SAND, 0xe8d2b0);

// Waves toward a low sun: four sines in the vertex shader, ripples by a bump map.
export function ocean({ scene, camera }) {
  haze(scene, 0xd98e5f, 30, 260);
  light(scene, 0xffb98a, 0x102030, 0xffa860, [0, 12, -100]);
  const ripples = noiseTexture(512, 8, 31, [[0, 0, 0, 0], [1, 255, 255, 255]], 60), time = { value: 0 };
  const water = new THREE.MeshStandardMaterial({ color: 0x16475a, roughness: 0.22, metalness: 0.3, bumpMap: ripples, bumpScale: 3 });
  water.onBeforeCompile = shader => {
    shader.uniforms.time = time;
    shader.vertexShader = "uniform float time;\n" + shader.vertexShader.replace("#include <beginnormal_vertex>",
      `vec2 p = position.xz; vec3 wave = vec3(0.0);
       vec4 k[4] = vec4[4](vec4(.21, .06, .7, 1.3), vec4(-.13, .35, .35, 1.9), vec4(.5, .41, .2, 2.4), vec4(.9, -.7, .09, 3.3));
       for (int i = 0; i < 4; i++) { float a = dot(k[i].xy, p) + k[i].w * time;
         wave += vec3(-k[i].xy * k[i].z * cos(a), k[i].z * sin(a)); }
       vec3 objectNormal = normalize(vec3(wave.x, 1.0, wave.y));`)
      .replace("#include <begin_vertex>", "vec3 transformed = position + vec3(0.0, wave.z, 0.0);");
  };
  scene.add(new THREE.Mesh(new THREE.PlaneGeometry(600, 600, 260, 260).rotateX(-Math.PI / 2), water));
  return seconds => {
    time.value = seconds;
    ripples.offset.set(0.05 * seconds, 0.08 * seconds);
    camera.position.set(0, 4.5 + 0.4 * Math.sin(seconds), -3 * seconds);
    camera.rotation.set(-0.12, 0, 0.03 * Math.sin(1.1 * seconds));
  };
}

// Falling snow between lit houses at night.
export function village({ scene, camera }) {
  haze(scene, 0x0b1020, 10, 110);
  scene.add(new THREE.HemisphereLight(0x4a5a88, 0x181c28, 0.9));
  const random = randoms(41);
  scene.add(hills(42, 240, 1, noiseTexture(512, 8, 43, [[0, 150, 160, 180], [1, 240, 244, 255]], 20)));
  const wall = new THREE.MeshStandardMaterial({ map: noiseTexture(256, 8, 44, [[0, 60, 40, 30], [1, 120, 90, 70]], 2) });
  const roof = new THREE.MeshStandardMaterial({ color: 0xdde4f0 }), pane = new THREE.MeshBasicMaterial({ color: 0xffc35a });
  for (let i = 0; i < 46; i++) {
    const house = new THREE.Group(), side = i % 2 ? 1 : -1;
    house.add(new THREE.Mesh(new THREE.BoxGeometry(5, 4, 5), wall));
    const top = new THREE.Mesh(new THREE.ConeGeometry(4.2, 3, 4).rotateY(Math.PI / 4), roof);
    top.position.y = 3.5;
    house.add(top);
    for (const x of [-1.2, 1.2]) for (const z of [-1, 1]) {
      const glass = new THREE.Mesh(new THREE.BoxGeometry(0.9, 1.1, 0.05), pane);
      glass.position.set(x, 0.3, z * 2.52);
      house.add(glass);
    }
    house.position.set(side * (6 + 14 * random()), 2, 60 - 5 * i + 4 * random());
    house.rotation.y = 0.5 * random();
    scene.add(house);
  }
  for (let i = 0; i < 5; i++) {
    const lamp = new THREE.PointLight(0xffb060, 60, 30);
    lamp.position.set(i % 2 ? 3 : -3, 4, 40 - 14 * i);
    scene.add(lamp);
  }
  const flakes = Float32Array.from({ length: 3 * 9000 }, () => 80 * random() - 40), geometry = new THREE.BufferGeometry();
  geometry.setAttribute("position", new THREE.BufferAttribute(flakes, 3));
  const snow = new THREE.Points(geometry, new THREE.PointsMaterial({ color: 0xffffff, size: 0.12, transparent: true, opacity: 0.85 }));
  scene.add(snow);
  return (seconds, step) => {
    for (let i = 0; i < flakes.length; i += 3) {
      flakes[i] += step * (0.8 + Math.sin(i + seconds));
      flakes[i + 1] -= step * (2.2 + (i % 7) / 5);
      if (flakes[i + 1] < -40) flakes[i + 1] += 80;
    }
    geometry.attributes.position.needsUpdate = true;
    camera.position.set(0, 2.2, 52 - 3 * seconds);
    camera.rotation.y = 0.12 * Math.sin(seconds);
    snow.position.set(0, 30, camera.position.z);
  };
}
