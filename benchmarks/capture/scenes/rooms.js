// Scenes of rooms, things and light. Each function fills a scene and returns what moves it: update(seconds, step).
import * as THREE from "three";
import { bricks, drawnTexture, noiseTexture, planks, randoms } from "./textures.js";

const WOOD = seed => new THREE.MeshStandardMaterial({ map: planks(seed), roughness: 0.6 });

function lamp(scene, color, power, x, y, z) {
  const light = new THREE.PointLight(color, power, 60);
  light.position.set(x, y, z);
  scene.add(light);
  return light;
}

// A vault of bricks by torches that flicker: dark.
export function cellar({ scene, camera }) {
  scene.fog = new THREE.Fog(0x000000, 5, 45);
  scene.add(new THREE.HemisphereLight(0x223044, 0x100804, 0.5));
  const wall = bricks(1), floor = bricks(2);
  wall.repeat.set(20, 2);
  floor.repeat.set(4, 20);
  for (const side of [-1, 1]) {
    const plane = new THREE.Mesh(new THREE.PlaneGeometry(100, 6), new THREE.MeshStandardMaterial({ map: wall, bumpMap: wall, bumpScale: 4 }));
    plane.position.set(3.5 * side, 3, -40);
    plane.rotation.y = -side * Math.PI / 2;
    scene.add(plane);
  }
  for (const y of [0, 5]) {
    const plane = new THREE.Mesh(new THREE.PlaneGeometry(8, 100), new THREE.MeshStandardMaterial({ map: floor, side: THREE.DoubleSide }));
    plane.rotation.x = -Math.PI / 2;
    plane.position.set(0, y, -40);
    scene.add(plane);
  }
  const torches = Array.from({ length: 6 }, (_, i) => lamp(scene, 0xff8a3a, 14, i % 2 ? 2.9 : -2.9, 3, -4 - 7 * i));
  return seconds => {
    torches.forEach((torch, i) => (torch.intensity = 14 + 5 * Math.sin(23 * seconds + 3 * i) * Math.sin(7.3 * seconds + i)));
    camera.position.set(0.4 * Math.sin(1.3 * seconds), 1.7 + 0.05 * Math.sin(8 * seconds), 4 - 3 * seconds);
    camera.rotation.y = 0.3 * Math.sin(0.9 * seconds);
  };
}

// Cloth that hangs from two corners in gusts of wind: springs between points.
export function cloth({ scene, camera, renderer }) {
  renderer.shadowMap.enabled = true;
  scene.background = new THREE.Color(0xcfd4d6);
  scene.add(new THREE.HemisphereLight(0xffffff, 0x777066, 1.4));
  const sun = new THREE.DirectionalLight(0xfff0dd, 2.5);
  sun.position.set(3, 6, 6);
  sun.castShadow = true;
  scene.add(sun);
  const size = 36, gap = 4 / size, geometry = new THREE.PlaneGeometry(4, 4, size, size), at = geometry.attributes.position;
  const plaid = drawnTexture(1024, 5, (context, extent, random) => {
    context.fillStyle = "#7d1f24";
    context.fillRect(0, 0, extent, extent);
    for (let stripe = 0; stripe < 64; stripe++) {
      context.fillStyle = `hsla(${360 * random()}, 50%, ${20 + 60 * random()}%, 0.35)`;
      const start = extent * random(), width = 4 + 30 * random();
      context.fillRect(start, 0, width, extent);
      context.fillRect(0, start, extent, width);
    }
    for (let thread = 0; thread < extent; thread += 4) {
      context.fillStyle = "rgba(0, 0, 0, 0.12)";
      context.fillRect(thread, 0, 2, extent);
      context.fillRect(0, thread, extent, 2);
    }
  });
  const mesh = new THREE.Mesh(geometry, new THREE.MeshStandardMaterial({ map: plaid, side: THREE.DoubleSide, roughness: 0.9 }));
  mesh.castShadow = mesh.receiveShadow = true;
  const wall = new THREE.Mesh(new THREE.PlaneGeometry(16, 10), new THREE.MeshStandardMaterial({ map: noiseTexture(512, 9, 6, [[0, 150, 145, 130], [1, 215, 210, 195]], 2) }));
  wall.position.z = -1.4;
  wall.receiveShadow = true;
  scene.add(mesh, wall);
  const points = Array.from({ length: at.count }, (_, i) => new THREE.Vector3().fromBufferAttribute(at, i)), before = points.map(p => p.clone());
  const row = size + 1, springs = [];
  for (let i = 0; i < points.length; i++) {
    if ((i + 1) % row) springs.push([i, i + 1]);
    if (i + row < points.length) springs.push([i, i + row]);
  }
  function move(seconds, step) {
    points.forEach((point, i) => {
      if (i === 0 || i === size || i === size / 2) return;
      const speed = point.clone().sub(before[i]).multiplyScalar(0.985), gust = 5 + 5 * Math.sin(2.3 * seconds) + 3 * Math.sin(5 * seconds + point.x);
      before[i].copy(point);
      point.add(speed).add(new THREE.Vector3(0.4 * gust, -9.8, gust).multiplyScalar(step * step));
    });
    for (let pass = 0; pass < 12; pass++) for (const [i, j] of springs) {
      const apart = points[j].clone().sub(points[i]), change = apart.multiplyScalar((1 - gap / apart.length()) / 2);
      if (i > 0 && i !== size && i !== size / 2) points[i].add(change);
      if (j !== size && j !== size / 2) points[j].sub(change);
    }
    points.forEach((point, i) => at.setXYZ(i, point.x, point.y, Math.max(point.z, -1.2)));
    at.needsUpdate = true;
    geometry.computeVertexNormals();
  }
  for (let warm = 0; warm < 60; warm++) move(warm / 30, 1 / 30);
  return seconds => {
    move(2 + seconds, 1 / 30);
    camera.position.set(0.8 * Math.sin(seconds), 0.2, 4.6);
    camera.lookAt(0, -0.3, 0);
  };
}

// Wooden blocks that fall and turn, with shadows and a shallow camera move.
export function blocks({ scene, camera, renderer }) {
  renderer.shadowMap.enabled = true;
  scene.background = new THREE.Color(0x3a4652);
  scene.add(new THREE.HemisphereLight(0xdde8ff, 0x40342a, 1));
  const sun = new THREE.DirectionalLight(0xffffff, 3);
  sun.position.set(6, 14, 8);
  sun.castShadow = true;
  Object.assign(sun.shadow.camera, { left: -12, right: 12, top: 12, bottom: -12 });
  scene.add(sun);
  const random = randoms(8), floor = new THREE.Mesh(new THREE.PlaneGeometry(60, 60).rotateX(-Math.PI / 2), WOOD(9));
  floor.material.map.repeat.set(8, 8);
  floor.receiveShadow = true;
  scene.add(floor);
  const letters = Array.from("RUNGWISE0123456789&@", (letter, i) => new THREE.MeshStandardMaterial({ map: drawnTexture(128, i, (context, size) => {
    context.fillStyle = `hsl(${36 * i}, 60%, 55%)`;
    context.fillRect(0, 0, size, size);
    context.fillStyle = "white";
    context.fillRect(10, 10, size - 20, size - 20);
    context.fillStyle = `hsl(${36 * i + 180}, 70%, 30%)`;
    context.font = "bold 90px serif";
    context.textAlign = "center";
    context.fillText(letter, size / 2, 94);
  }) }));
  const cubes = Array.from({ length: 120 }, (_, i) => {
    const cube = new THREE.Mesh(new THREE.BoxGeometry(1, 1, 1), letters[i % letters.length]);
    cube.castShadow = cube.receiveShadow = true;
    cube.userData = { x: 14 * random() - 7, z: 10 * random() - 7, start: 4 * random(), spin: 4 * random() - 2, scale: 0.5 + 0.6 * random() };
    cube.scale.setScalar(cube.userData.scale);
    scene.add(cube);
    return cube;
  });
  return seconds => {
    for (const cube of cubes) {
      const { x, z, start, spin, scale } = cube.userData, age = (seconds + start) % 4, bounce = 1.25;
      const height = age < bounce ? 7.6 - 4.9 * age * age : Math.max(0, 3 * (age - bounce) - 4.9 * (age - bounce) ** 2);
      const turning = Math.min(age, 1.86);
      cube.position.set(x + 0.5 * turning * spin, height + scale / 2, z);
      cube.rotation.set(spin * turning, 2 * spin * turning, 0.7 * spin * turning);
    }
    camera.position.set(3 * Math.sin(0.5 * seconds), 3.4, 11);
    camera.lookAt(0, 1.6, 0);
  };
}

// Spheres of metal and glass in a room of lights: reflections, smooth shades.
export async function metal({ scene, camera, renderer }) {
  const { RoomEnvironment } = await import("three/addons/environments/RoomEnvironment.js");
  scene.environment = new THREE.PMREMGenerator(renderer).fromScene(new RoomEnvironment(), 0.03).texture;
  scene.background = scene.environment;
  scene.backgroundBlurriness = 0.4;
  const random = randoms(12), scratches = noiseTexture(256, 8, 13, [[0, 20, 20, 20], [1, 200, 200, 200]], 3);
  const balls = Array.from({ length: 60 }, (_, i) => {
    const material = new THREE.MeshStandardMaterial({ metalness: i % 3 ? 1 : 0.1, roughness: 0.45 * random(), roughnessMap: i % 2 ? scratches : null });
    material.color.setHSL(random(), 0.5, 0.6);
    const shape = i % 4 ? new THREE.SphereGeometry(0.6, 40, 30) : new THREE.TorusKnotGeometry(0.45, 0.16, 90, 14);
    const ball = new THREE.Mesh(shape, material);
    ball.userData = { radius: 1 + 5 * random(), phase: 6.28 * random(), speed: 0.3 + 0.9 * random(), y: 5 * random() - 2.5 };
    scene.add(ball);
    return ball;
  });
  return seconds => {
    for (const ball of balls) {
      const { radius, phase, speed, y } = ball.userData, angle = phase + speed * seconds;
      ball.position.set(radius * Math.cos(angle), y + 0.5 * Math.sin(2 * angle), radius * Math.sin(angle) - 2);
      ball.rotation.set(angle, 2 * angle, 0);
    }
    camera.position.set(8 * Math.sin(0.2 * seconds), 1, 8);
    camera.lookAt(0, 0, -1);
  };
}

// A crowd that walks across a square in both directions.
export function square({ scene, camera, renderer }) {
  renderer.shadowMap.enabled = true;
  scene.background = new THREE.Color(0xb7c6d2);
  scene.fog = new THREE.Fog(0xb7c6d2, 25, 80);
  scene.add(new THREE.HemisphereLight(0xe8f0ff, 0x665f55, 1.3));
  const sun = new THREE.DirectionalLight(0xfff2d8, 2.6);
  sun.position.set(-20, 25, 10);
  sun.castShadow = true;
  sun.shadow.mapSize.set(2048, 2048);
  Object.assign(sun.shadow.camera, { left: -30, right: 30, top: 30, bottom: -30 });
  scene.add(sun);
  const paving = bricks(15);
  paving.repeat.set(30, 30);
  const ground = new THREE.Mesh(new THREE.PlaneGeometry(160, 160).rotateX(-Math.PI / 2), new THREE.MeshStandardMaterial({ map: paving, color: 0xc8c4bb }));
  ground.receiveShadow = true;
  scene.add(ground);
  const random = randoms(16), front = bricks(17);
  front.repeat.set(4, 4);
  for (let i = 0; i < 14; i++) {
    const house = new THREE.Mesh(new THREE.BoxGeometry(9, 10 + 8 * random(), 8), new THREE.MeshStandardMaterial({ map: front, color: new THREE.Color().setHSL(random(), 0.2, 0.75) }));
    house.position.set(-60 + 9.2 * i, 6, -32);
    scene.add(house);
  }
  const people = Array.from({ length: 140 }, (_, i) => {
    const person = new THREE.Group(), coat = new THREE.MeshStandardMaterial({ color: new THREE.Color().setHSL(random(), 0.6 * random(), 0.15 + 0.5 * random()) });
    const body = new THREE.Mesh(new THREE.CapsuleGeometry(0.26, 0.62, 4, 10), coat), head = new THREE.Mesh(new THREE.SphereGeometry(0.17, 12, 10), new THREE.MeshStandardMaterial({ color: 0xc89878 }));
    body.position.y = 1.15;
    head.position.y = 1.85;
    const legs = [-0.13, 0.13].map(z => {
      const leg = new THREE.Mesh(new THREE.CapsuleGeometry(0.1, 0.7, 3, 6).translate(0, -0.4, 0), coat);
      leg.position.set(0, 0.9, z);
      return leg;
    });
    person.add(body, head, ...legs);
    person.traverse(part => (part.castShadow = true));
    person.userData = { legs, start: 60 * random(), speed: (i % 2 ? 1 : -1) * (1 + 0.8 * random()) };
    person.position.z = -26 + 34 * random();
    scene.add(person);
    return person;
  });
  return seconds => {
    for (const person of people) {
      const { legs, start, speed } = person.userData;
      person.position.x = ((start + speed * seconds + 600) % 60) - 30;
      person.position.y = 0.04 * Math.abs(Math.sin(6 * (seconds + start)));
      legs.forEach((leg, side) => (leg.rotation.z = 0.55 * Math.sin(6 * (seconds + start) + Math.PI * side)));
    }
    camera.position.set(-3 + 1.2 * seconds, 3.2, 12);
    camera.lookAt(0.6 * seconds, 1.4, -8);
  };
}

// A street at night in the rain: lit windows, cars, wet ground.
export function street({ scene, camera }) {
  scene.fog = new THREE.Fog(0x04060c, 10, 140);
  scene.add(new THREE.HemisphereLight(0x2a3a5c, 0x08080a, 0.8));
  const random = randoms(21);
  const windows = seed => drawnTexture(512, seed, (context, size, chance) => {
    context.fillStyle = "#06070a";
    context.fillRect(0, 0, size, size);
    for (let x = 0; x < 16; x++) for (let y = 0; y < 32; y++) if (chance() > 0.62) {
      context.fillStyle = `hsl(${chance() > 0.8 ? 210 : 38}, 70%, ${25 + 45 * chance()}%)`;
      context.fillRect(x * 32 + 6, y * 16 + 3, 20, 10);
    }
  });
  for (let i = 0; i < 34; i++) {
    const map = windows(30 + (i % 5)), tall = 18 + 40 * random();
    const tower = new THREE.Mesh(new THREE.BoxGeometry(12, tall, 12), new THREE.MeshStandardMaterial({ map, emissiveMap: map, emissive: 0xffffff, emissiveIntensity: 0.9 }));
    tower.position.set((i % 2 ? 1 : -1) * (13 + 3 * random()), tall / 2, 20 - 7 * i);
    scene.add(tower);
  }
  const wet = noiseTexture(512, 9, 33, [[0, 6, 6, 8], [1, 48, 48, 54]], 30);
  scene.add(new THREE.Mesh(new THREE.PlaneGeometry(300, 400).rotateX(-Math.PI / 2), new THREE.MeshStandardMaterial({ map: wet, roughness: 0.3, metalness: 0.5 })));
  for (let i = 0; i < 7; i++) lamp(scene, i % 2 ? 0xffb46a : 0xff4fa0, 160, i % 2 ? 6 : -6, 6, 5 - 16 * i);
  const cars = Array.from({ length: 16 }, (_, i) => {
    const away = i % 2, car = new THREE.Group(), light = new THREE.MeshBasicMaterial({ color: away ? 0xff2218 : 0xfff4d0 });
    for (const x of [-0.7, 0.7]) {
      const bulb = new THREE.Mesh(new THREE.SphereGeometry(0.22, 10, 8), light);
      bulb.position.set(x, 0.7, 2.1);
      car.add(bulb);
    }
    const body = new THREE.Mesh(new THREE.BoxGeometry(1.9, 1.2, 4.2), new THREE.MeshStandardMaterial({ color: 0x333a48, metalness: 0.7, roughness: 0.3 }));
    body.position.y = 0.8;
    car.add(body);
    car.position.x = away ? 2.4 : -2.4;
    scene.add(car);
    return car;
  });
  const drops = Float32Array.from({ length: 6 * 2600 }, () => 0), geometry = new THREE.BufferGeometry(), starts = Float32Array.from({ length: 3 * 2600 }, () => random());
  geometry.setAttribute("position", new THREE.BufferAttribute(drops, 3));
  scene.add(new THREE.LineSegments(geometry, new THREE.LineBasicMaterial({ color: 0x9fb4d8, transparent: true, opacity: 0.35 })));
  return seconds => {
    cars.forEach((car, i) => (car.position.z = (((i % 2 ? -1 : 1) * 11 * seconds + 13 * i + 600) % 150) - 130));
    camera.position.set(0, 2.6, 12 - 4 * seconds);
    camera.rotation.y = 0.06 * Math.sin(seconds);
    for (let i = 0; i < 2600; i++) {
      const y = 20 * (1 - ((starts[3 * i + 1] + 1.1 * seconds) % 1)), x = 24 * starts[3 * i] - 12, z = camera.position.z - 26 * starts[3 * i + 2];
      drops.set([x, y, z, x + 0.03, y + 0.5, z], 6 * i);
    }
    geometry.attributes.position.needsUpdate = true;
  };
}
